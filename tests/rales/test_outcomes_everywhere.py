"""Each of the three outcomes, in the same words in every output, and never without its scope."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from chest_cases import Case, both_lungs, healthy_lungs, make_case
from click.testing import CliRunner
from fhir.resources.R4B.bundle import Bundle
from http_receiver import HttpReceiver
from notify_rig import HEALTHY, ILL, NOON, MakeRig
from outcomes import EXAMPLES, NAMES
from sr_content import groups, name_of

from chestct.findings import Findings, Outcome
from chestct.findings_json import findings_to_dict
from chestct.verdict import scope, sentence, verdict
from chestct.volume import LEFT_LABELS, Label
from dicom_out.objects import codes
from dicom_out.objects.sr_reader import NotOurReport, read_report
from dicom_out.objects.text import render_text
from dicom_out.title import may_be_report
from rales.analysis.priors import prior_from_job
from rales.cli import cli
from rales.pictures.heading import Heading
from rales.pictures.overlay import write_montage
from rales.pictures.page import draw_page
from rales.state.results import stored_findings

from .test_one_lung import report_of, words_of

EACH = pytest.mark.parametrize(("findings", "outcome"), EXAMPLES, ids=NAMES)
CODES = {
    Outcome.FOUND: ("52101004", "Present"),
    Outcome.NONE_MARKED: ("NONE_MARKED", "None marked"),
    Outcome.INDETERMINATE: ("373068000", "Undetermined"),
}
FORMER = (
    "no lesion found",
    "no lesion was found",
    "no lung lesion",
    "not found by",
)


def require_claim(text: str, findings: Findings) -> None:
    """Check that a text states the outcome and its scope, and no other outcome."""
    joined = " ".join(text.split())
    assert verdict(findings).lower() in joined.lower()
    assert scope(findings) in joined
    assert not any(words in joined.lower() for words in FORMER)
    assert not any(words in joined.lower() for words in ("mild", "severe", "severity"))
    for other in set(Outcome) - {findings.outcome}:
        assert f"{other}:" not in joined.lower()


@pytest.fixture
def case(findings: Findings, tmp_path: Path) -> Case:
    """A tiny series of the outcome of ``findings``; with lesions it has findings of its own."""
    if findings.lesions:
        return make_case(tmp_path / "series", labels=both_lungs())
    labels = healthy_lungs()
    if findings.missing is not None:
        labels[np.isin(labels, LEFT_LABELS)] = Label.BACKGROUND
    return replace(make_case(tmp_path / "series", labels=labels), findings=findings)


@EACH
def test_the_report(case: Case, outcome: Outcome, tmp_path: Path) -> None:
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path)
    description = sr.SeriesDescription
    assert description.lower().startswith(outcome)
    assert len(description) <= 64  # Long String, PS3.5 section 6.2
    assert may_be_report(description)
    (summary,) = groups(sr, "Summary")
    (presence,) = [item for item in summary.ContentSequence if item.ValueType == "CODE"][-1:]
    assert name_of(presence) == "Opacity presence"
    value = presence.ConceptCodeSequence[0]
    assert (value.CodeValue, value.CodeMeaning) == CODES[outcome]
    contained = [item for item in sr.ContentSequence if item.RelationshipType == "CONTAINS"]
    assert name_of(contained[0]) == "Comment"
    require_claim(contained[0].TextValue, case.findings)
    assert [name_of(item) for item in contained[1:3]] == ["Image Library", "Imaging Measurements"]


@EACH
def test_the_report_states_no_amount_in_doubt(case: Case, outcome: Outcome, tmp_path: Path) -> None:
    """Zero beside indeterminate would read as negative; the assessable lung keeps its numbers."""
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path)
    (summary,) = groups(sr, "Summary")
    numbers = {name_of(item) for item in summary.ContentSequence if item.ValueType == "NUM"}
    amounts = {codes.LESION_VOLUME.meaning, codes.COUNT.meaning} & numbers
    assert len(numbers) >= 2
    assert bool(amounts) == case.findings.states_opacity
    if not case.findings.states_opacity:
        assert outcome is Outcome.INDETERMINATE
        with pytest.raises(NotOurReport, match="no amount of opacity"):
            read_report(sr)


@EACH
def test_the_segmentation_names_opacities_only_if_it_holds_some(
    case: Case, outcome: Outcome, tmp_path: Path
) -> None:
    seg = pydicom.dcmread(case.compose(tmp_path / "out").objects[0].path)
    said = f"{seg.SeriesDescription} {seg.ContentDescription}"
    has_opacities = outcome is Outcome.FOUND
    assert ("opacities" in said) == ("ground-glass" in said) == has_opacities
    assert said.startswith("Lungs")


@EACH
def test_the_report_as_text(case: Case, outcome: Outcome, tmp_path: Path) -> None:
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path)
    claim, *_ = render_text(sr).splitlines()
    assert claim.lower().startswith(outcome)
    require_claim(claim, case.findings)


@EACH
def test_the_pictures(
    case: Case, outcome: Outcome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = words_of(monkeypatch, lambda: draw_page(case.analysed(), Heading(examination="")))
    path = tmp_path / "overlay.png"
    montage = words_of(monkeypatch, lambda: write_montage(path, case.analysed()))
    for said in (page, montage):
        assert sentence(outcome) in said
        require_claim(said, case.findings)


@EACH
def test_the_findings(findings: Findings, outcome: Outcome, tmp_path: Path) -> None:
    stored = stored_of(findings, tmp_path)
    assert stored["outcome"] == findings_to_dict(findings)["outcome"] == outcome
    assert stored["verdict"] == verdict(findings)
    assert stored["scope"] == scope(findings)


@EACH
def test_no_zero_stands_in_the_webhook_of_an_indeterminate_outcome(
    findings: Findings, outcome: Outcome, tmp_path: Path
) -> None:
    """Nor in the state file and ``status --json``, whose findings are the same."""
    stored = stored_of(findings, tmp_path)
    assert stored["states_opacity"] == states_opacity(findings)
    lung = stored["right"]
    amounts = [stored["lesions"], stored["lesion_ml"], lung["involved_percent"], lung["lesion_ml"]]
    assert all((amount is not None) == states_opacity(findings) for amount in amounts)
    if not states_opacity(findings):
        assert outcome is Outcome.INDETERMINATE
        assert (stored["involved_percent"], stored["extent"], lung["zones"]) == (None, None, {})
    assert stored["lung_ml"] > 0
    assert lung["lung_ml"] > 0


@EACH
@pytest.mark.parametrize("earlier", [False, True], ids=["", "earlier version"])
def test_no_indeterminate_result_of_the_state_file_is_subtracted(
    findings: Findings, outcome: Outcome, *, earlier: bool, make_rig: MakeRig, tmp_path: Path
) -> None:
    rig = make_rig(url="http://127.0.0.1:1/")
    result = report_of(findings, tmp_path).to_dict()
    if earlier:
        del result["findings"]["states_opacity"]
    rig.jobs.composed(rig.claim(), key="k", result=result, at=NOON, message="ok", hold=False)
    prior = prior_from_job(rig.job)
    assert prior is not None
    known = outcome is not Outcome.INDETERMINATE if earlier else states_opacity(findings)
    assert prior.states_opacity == known


def stored_of(findings: Findings, folder: Path) -> dict[str, Any]:
    """Return the findings in the state file, which webhook and ``status --json`` contain."""
    return report_of(findings, folder).to_dict()["findings"]  # type: ignore[no-any-return]


@EACH
def test_the_status(
    findings: Findings, outcome: Outcome, make_rig: MakeRig, tmp_path: Path
) -> None:
    rig = make_rig(url="http://127.0.0.1:1/")
    result = report_of(findings, tmp_path).to_dict()
    rig.jobs.composed(rig.claim(), key="k", result=result, at=NOON, message="ok", hold=False)
    (tmp_path / "rales.toml").write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    shown, plain = (
        CliRunner().invoke(
            cli,
            ["status", "--config", str(tmp_path / "rales.toml"), *more],
            env={"COLUMNS": "1000"},
            catch_exceptions=False,
        )
        for more in ([], ["--json"])
    )
    assert verdict(findings) in shown.output
    if outcome is not Outcome.FOUND:
        require_claim(shown.output, findings)
    assert json.loads(plain.output)["series"][0]["result"]["findings"]["outcome"] == outcome


@pytest.mark.parametrize("lesions", [0, 1])
def test_the_status_of_an_earlier_version_is_no_negative(
    lesions: int, make_rig: MakeRig, tmp_path: Path
) -> None:
    """Earlier versions called a result without lesions "no lesion found" whatever its score."""
    rig = make_rig(url="http://127.0.0.1:1/")
    result = report_of(ILL if lesions else HEALTHY, tmp_path).to_dict()
    for new in ("outcome", "scope", "extent"):
        del result["findings"][new]
    result["findings"]["verdict"] = "4.2 % of the lungs involved" if lesions else "no lesion found"
    rig.jobs.composed(rig.claim(), key="k", result=result, at=NOON, message="ok", hold=False)
    (tmp_path / "rales.toml").write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    shown = CliRunner().invoke(
        cli,
        ["status", "--config", str(tmp_path / "rales.toml")],
        env={"COLUMNS": "1000"},
        catch_exceptions=False,
    )
    assert ("4.2 % of the lungs involved" in shown.output) == bool(lesions)
    assert ("negative or indeterminate" in shown.output) == (not lesions)
    assert "no lesion found" not in shown.output
    plain = CliRunner().invoke(
        cli,
        ["status", "--json", "--config", str(tmp_path / "rales.toml")],
        catch_exceptions=False,
    )
    (series,) = json.loads(plain.output)["series"]
    assert "no lesion found" not in plain.output
    assert series["result"]["findings"] == stored_findings(rig.job)


@EACH
def test_the_fhir_report(
    findings: Findings, outcome: Outcome, make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(findings)
    rig.send()
    resources = [
        entry.resource for entry in Bundle.model_validate_json(receiver.received[-1].body).entry
    ]
    conclusion = resources[-1].conclusion
    assert conclusion.lower().startswith(outcome)
    require_claim(conclusion, findings)
    (presence,) = [
        resource.valueCodeableConcept.coding[0]
        for resource in resources
        if resource.get_resource_type() == "Observation"
        and resource.code.coding[0].code == "LESION_PRESENCE"
    ]
    assert (presence.code, presence.display) == CODES[outcome]


def test_reports_of_earlier_versions_are_still_found() -> None:
    assert may_be_report("Rales report: no lesion found (AI-made, research use only)")
    assert may_be_report("")
    assert not may_be_report("Dose report")


def states_opacity(findings: Findings) -> bool:
    """Whether an amount of opacity may stand; in the lung beside a missing one it may."""
    return not findings.indeterminate_reasons or findings.missing is not None


@EACH
def test_no_zero_stands_on_the_page_of_an_indeterminate_outcome(
    findings: Findings, outcome: Outcome, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = words_of(monkeypatch, lambda: draw_page(case.analysed(), Heading(examination="")))
    assert sentence(outcome) in page
    assert (" %" in page) == states_opacity(findings)


@EACH
def test_no_zero_stands_in_the_fhir_report_of_an_indeterminate_outcome(
    findings: Findings, outcome: Outcome, make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(findings)
    rig.send()
    observed = [
        resource
        for entry in Bundle.model_validate_json(receiver.received[-1].body).entry
        if (resource := entry.resource).get_resource_type() == "Observation"
    ]
    for code in ("PCT_INVOLVED", "LESION_VOLUME", codes.COUNT.value):
        own = [one for one in observed if one.code.coding[0].code == code]
        assert any(one.valueQuantity is not None for one in own) == states_opacity(findings)
        without = [one for one in own if one.valueQuantity is None]
        assert all(outcome in one.dataAbsentReason.text.lower() for one in without) or (
            findings.missing is not None
        )
