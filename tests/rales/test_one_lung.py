"""One lung that is not assessable, in everything that the node tells beside SEG and SR."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from chest_cases import both_lungs, make_case
from click.testing import CliRunner
from fhir.resources.R4B.bundle import Bundle
from http_receiver import HttpReceiver
from hypothesis import given
from hypothesis import strategies as st
from notify_rig import HEALTHY, LESION, NOON, MakeRig
from PIL import ImageDraw
from prior_results import NOW, acquisition_context

from chestct.evolution import Comparison, PriorResult, compare
from chestct.findings import (
    Coverage,
    Extent,
    Findings,
    Lung,
    LungMeasurement,
    NotAssessable,
    Side,
)
from chestct.findings_json import findings_to_dict, lung_from_dict
from chestct.results import AnalysisKey, Profile, ResultObject, ResultReference, ResultSet
from chestct.uids import OwnUid, Uid, derive_uid
from chestct.verdict import verdict
from chestct.volume import Label
from dicom_out.objects.sr_evolution import evolution_numbers, evolution_statement
from phantom import Thorax
from rales.analysis.priors import context_to_dict, evolution_to_dict, prior_from_job
from rales.cli import cli
from rales.pictures.heading import Heading
from rales.pictures.overlay import write_montage
from rales.pictures.page import draw_page
from rales.pictures.trend import draw_trend
from rales.state.results import AnalysisReport

PRESENT = acquisition_context(kernel="")
MISSING = NotAssessable(aerated_ml=12.4, needed_ml=345.6)
ILL_LUNG = LungMeasurement(
    volume_ml=2000.0,
    lesion_ml=100.0,
    involved_percent=5.0,
    high_opacity_percent=10.0,
    lesion_mean_hu=-400.0,
)
SIDES = tuple(Side)
ANY_LUNG = st.builds(
    LungMeasurement,
    volume_ml=st.floats(0, 6000),
    lesion_ml=st.floats(0, 6000),
    involved_percent=st.floats(0, 100),
    high_opacity_percent=st.floats(0, 100),
    lesion_mean_hu=st.none() | st.floats(-1000, 200),
) | st.builds(NotAssessable, aerated_ml=st.floats(0, 6000), needed_ml=st.floats(100, 6000))


def other_than(side: Side) -> Side:
    return Side.RIGHT if side is Side.LEFT else Side.LEFT


def without(side: Side, *, ill: bool = False) -> Findings:
    """Return findings of one lung; the one of that side is not assessable."""
    lung = ILL_LUNG if ill else HEALTHY.left
    lungs: dict[Side, Lung] = {side: MISSING, other_than(side): lung}
    return replace(
        HEALTHY,
        left=lungs[Side.LEFT],
        right=lungs[Side.RIGHT],
        total=None,
        extent=None,
        lesions=(replace(LESION, side=other_than(side)),) if ill else (),
        quality_flags=(f"the {side} lung is not assessable",),
    )


def report_of(findings: Findings, folder: Path) -> AnalysisReport:
    sr = ResultObject(
        role="sr",
        path=folder / "sr.dcm",
        sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.88.34"),
        sop_instance_uid=OwnUid(derive_uid("sr")),
        series_uid=OwnUid(derive_uid("series")),
        study_uid=Uid("1.2"),
    )
    key = AnalysisKey(
        series_uid=Uid("1.2.3"), instances_digest="i", models_digest="m", config_digest="c"
    )
    return AnalysisReport(
        results=ResultSet(key=key, objects=(sr,)),
        findings=findings,
        seconds={},
        provider="CPU",
        overlay=folder / "overlay.png",
        context=context_to_dict(PRESENT),
    )


def prior(covers: Coverage, percent: float = 4.0, days: int = 14) -> PriorResult:
    made = replace(PRESENT, study_uid=Uid(f"1.2.{days}"), acquired=NOW - timedelta(days=days))
    return PriorResult(
        context=made,
        report=ResultReference(
            study_uid=Uid("1.2"),
            series_uid=Uid("2.1"),
            sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.88.34"),
            sop_instance_uid=derive_uid("sr", str(days)),
        ),
        lesion_ml=80.0,
        involved_percent=percent,
        covers=covers,
    )


@given(left=ANY_LUNG, right=ANY_LUNG, total=st.booleans(), extent=st.booleans())
def test_findings_state_of_both_only_what_both_have(
    left: Lung, right: Lung, *, total: bool, extent: bool
) -> None:
    measured = [one for one in (left, right) if isinstance(one, LungMeasurement)]
    whole = len(measured) == 2

    def make() -> Findings:
        return replace(
            HEALTHY,
            left=left,
            right=right,
            total=HEALTHY.total if total else None,
            extent=Extent.NONE if extent else None,
        )

    if not measured or total != whole or extent != whole:
        with pytest.raises(ValueError, match="lung"):
            make()
        return
    found = make()
    assert (found.covers is Coverage.BOTH) == whole == (found.missing is None)
    assert found.covered == (HEALTHY.total if whole else measured[0])
    plain = json.loads(json.dumps(findings_to_dict(found)))
    assert lung_from_dict(plain["left"]) == left
    assert lung_from_dict(plain["right"]) == right
    assert plain["covers"] == found.covers
    assert ("not assessable" in verdict(found)) != whole
    assert verdict(found).startswith("none marked") == whole


def test_no_lesion_lies_in_a_lung_that_is_not_assessable() -> None:
    with pytest.raises(ValueError, match="not assessable"):
        replace(without(Side.LEFT), lesions=(replace(LESION, side=Side.LEFT),))


@pytest.mark.parametrize("ill", ["ill", "healthy"])
@pytest.mark.parametrize("side", SIDES)
def test_the_state_file_remembers_what_a_result_covers(
    side: Side, ill: str, make_rig: MakeRig, tmp_path: Path
) -> None:
    findings = without(side, ill=ill == "ill")
    rig = make_rig(url="http://127.0.0.1:1/")
    result = report_of(findings, tmp_path).to_dict()
    rig.jobs.composed(
        rig.claim(), key="k", result=result, at=NOON, message=verdict(findings), hold=False
    )
    prior_result = prior_from_job(rig.job)
    assert prior_result is not None
    assert prior_result.covers is findings.covers
    assert prior_result.involved_percent == findings.covered.involved_percent
    stored = rig.job.result["findings"]  # what the webhook sends, too
    assert stored["involved_percent"] is None
    assert stored["extent"] is None
    assert stored["outcome"] == findings.outcome
    assert stored[side] == {"not_assessable": MISSING.reason}
    (tmp_path / "rales.toml").write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    shown = CliRunner().invoke(
        cli,
        ["status", "--config", str(tmp_path / "rales.toml")],
        env={"COLUMNS": "400"},
        catch_exceptions=False,
    )
    assert verdict(findings) in shown.output
    assert "no lesion found" not in shown.output
    assert "None" not in shown.output


def test_a_prior_has_the_report_of_each_profile(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(url="http://127.0.0.1:1/")
    report = report_of(HEALTHY, tmp_path)
    (sr,) = report.results.objects
    plain = replace(sr, role="sr-plain", sop_instance_uid=OwnUid(derive_uid("plain")))
    results = replace(report.results, objects=(sr, plain))
    result = replace(report, results=results).to_dict()
    rig.jobs.composed(rig.claim(), key="k", result=result, at=NOON, message="ok", hold=False)
    found = prior_from_job(rig.job)
    assert found is not None
    assert found.report_for(Profile.PLAIN).sop_instance_uid == plain.sop_instance_uid
    assert found.report_for(Profile.SLICER) == found.report_for(Profile.OHIF) == found.report


def test_a_result_of_an_older_version_covers_both(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(url="http://127.0.0.1:1/")
    result = report_of(HEALTHY, tmp_path).to_dict()
    for key in ("covers", "verdict", "left", "right"):
        del result["findings"][key]
    rig.jobs.composed(rig.claim(), key="k", result=result, at=NOON, message="ok", hold=False)
    found = prior_from_job(rig.job)
    assert found is not None
    assert found.covers is Coverage.BOTH


@pytest.mark.parametrize("before", Coverage)
@pytest.mark.parametrize("now", Coverage)
def test_only_what_covers_the_same_lungs_is_subtracted(before: Coverage, now: Coverage) -> None:
    findings = HEALTHY if now is Coverage.BOTH else without(other_than(Side(now)), ill=True)
    evolution = compare(
        findings, PRESENT, [prior(before), prior(Coverage.BOTH, percent=9.0, days=30)]
    )
    assert evolution is not None
    statement = evolution_statement(evolution, Profile.OHIF)
    plain = evolution_to_dict(evolution)
    drawn = {percent for _, percent in evolution.trend}
    assert (9.0 in drawn) == (now is Coverage.BOTH)
    if before is not now:
        assert evolution.comparison is Comparison.OTHER_LUNGS
        assert evolution_numbers(evolution) == []
        assert "involved_percent_change" not in plain
        assert statement.startswith("Not compared with")
        assert "not the same lungs were assessable" in statement
        return
    assert evolution.comparison is Comparison.COMPARABLE
    assert len(evolution_numbers(evolution)) == 3
    assert plain["covers"] == now
    if now is not Coverage.BOTH:
        assert f"{now} lung involved 4.0 to 5.0 percent" in statement
        assert "lungs involved" not in statement


def words_of(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], object]) -> str:
    """Return everything that is written into a picture."""
    written: list[str] = []
    real = ImageDraw.ImageDraw.text

    def spy(
        self: ImageDraw.ImageDraw, at: object, text: str, *more: object, **keys: object
    ) -> None:
        written.append(text)
        real(self, at, text, *more, **keys)  # type: ignore[arg-type] - passed on

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    draw()
    return "\n".join(written)


def test_the_trend_of_one_lung_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    evolution = compare(without(Side.LEFT, ill=True), PRESENT, [prior(Coverage.RIGHT)])
    assert evolution is not None
    said = words_of(monkeypatch, lambda: draw_trend(evolution))
    assert "Right lung involved, percent (left lung not assessable)" in said
    assert "Lungs involved" not in said


@pytest.mark.parametrize("ill", ["ill", "healthy"])
@pytest.mark.parametrize("side", SIDES)
def test_the_pictures_say_it(
    side: Side, ill: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labels = both_lungs()
    labels[np.isin(labels, (1, 3) if side is Side.LEFT else (2, 4))] = Label.BACKGROUND
    case = make_case(tmp_path, labels=labels)
    findings = without(side, ill=ill == "ill")
    analysed = case.analysed(findings=findings)
    path = tmp_path / "overlay.png"
    page = words_of(monkeypatch, lambda: draw_page(analysed, Heading(examination="")))
    montage = words_of(monkeypatch, lambda: write_montage(path, analysed))
    for said in (page.replace("\n", " "), montage):
        assert f"{side} lung not assessable" in said
        assert "% of the lungs" not in said
        assert "o lesion" not in said
        assert "Indeterminate" in said or ill == "ill"
        assert f"5.0 % of the {other_than(side)} lung" in said or ill == "healthy"
    assert "(None)" not in page + montage
    assert not any(word in montage for word in ("mild", "moderate", "severe"))
    assert "Not assessable" in page.split("\n")
    assert "Both lungs together: not stated" in page


@pytest.mark.parametrize("ill", ["ill", "healthy"])
@pytest.mark.parametrize("side", SIDES)
def test_the_bundle_says_why_a_value_is_absent(
    side: Side, ill: str, make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(without(side, ill=ill == "ill"))
    rig.send()
    bundle = Bundle.model_validate_json(receiver.received[-1].body)
    lungs = {Side.LEFT: "44029006", Side.RIGHT: "3341006"}
    both = "39607008"
    absent, present = set(), set()
    for entry in bundle.entry:
        one = entry.resource
        if one.get_resource_type() == "DiagnosticReport":
            assert f"{side} lung not assessable" in one.conclusion
            assert "No lung lesion" not in one.conclusion
            assert "of the lungs" not in one.conclusion
        if one.get_resource_type() != "Observation":
            continue
        key = (one.code.coding[0].code, one.bodySite.coding[0].code)
        if one.dataAbsentReason:
            assert one.dataAbsentReason.coding[0].code == "unknown"
            assert f"{side} lung not assessable" in one.dataAbsentReason.text
            assert one.valueQuantity is None
            assert one.valueCodeableConcept is None
            absent.add(key)
        else:
            present.add(key)
        if key[0] == "LESION_PRESENCE":
            said = one.valueCodeableConcept.coding[0].display
            assert said == ("Present" if ill == "ill" else "Undetermined")
    numbers = ("118565006", "LESION_VOLUME", "PCT_INVOLVED")
    assert absent == {(code, site) for code in numbers for site in (lungs[side], both)}
    assert {site for _, site in present} == {lungs[other_than(side)]}


def whiten(thorax: Thorax, source: Path, folder: Path) -> None:
    """Write a series with the air of the left half of the body at 40 HU."""
    folder.mkdir()
    left = np.arange(thorax.hu.shape[2]) > thorax.hu.shape[2] / 2
    for path in source.iterdir():
        image = pydicom.dcmread(path)
        pixels = image.pixel_array.copy()
        hu = pixels * float(image.RescaleSlope) + float(image.RescaleIntercept)
        index = round((float(image.ImagePositionPatient[2]) - thorax.origin[2]) / thorax.spacing[0])
        inside = thorax.left_lung[index] & left & (hu < -300)
        fill = (40 - float(image.RescaleIntercept)) / float(image.RescaleSlope)
        pixels[inside] = round(fill)
        image.PixelData = pixels.tobytes()
        image.save_as(folder / path.name)


@pytest.mark.slow
def test_analyze_gives_the_other_lung_its_result(
    healthy_series: Path, healthy_thorax: Thorax, tmp_path: Path
) -> None:
    whiten(healthy_thorax, healthy_series, tmp_path / "in")
    result = CliRunner().invoke(
        cli,
        ["analyze", str(tmp_path / "in"), "--out", str(tmp_path / "out")],
        env={"COLUMNS": "300"},
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "left lung not assessable" in result.output
    assert "no lesion found" not in result.output
    found = json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]
    assert found["covers"] == "right"
    assert found["total"] is None
    assert found["left"]["not_assessable"]
    truth = healthy_thorax.volume_ml(healthy_thorax.right_lung)
    assert found["right"]["volume_ml"] == pytest.approx(truth, rel=0.1)


@pytest.mark.real
def test_a_real_chest_with_a_white_lung(shared_root: Path, tmp_path: Path) -> None:
    maker = shared_root / "cases" / "make_cases.py"
    subprocess.run([sys.executable, maker, tmp_path / "in", "one_lung_opaque"], check=True)
    result = CliRunner().invoke(
        cli,
        ["analyze", str(tmp_path / "in"), "--out", str(tmp_path / "out")],
        env={"COLUMNS": "300"},
        catch_exceptions=False,
    )
    assert "indeterminate: left lung not assessable" in result.output
    seg = pydicom.dcmread(tmp_path / "out" / "seg.dcm")
    assert [str(one.SegmentLabel) for one in seg.SegmentSequence] == [
        "Right lung excluding opacities"
    ]
    found = json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]
    assert (found["covers"], found["extent"], found["total"]) == ("right", None, None)
    assert found["right"]["volume_ml"] == pytest.approx(3178, rel=0.02)  # of the source
