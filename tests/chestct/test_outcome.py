"""The three outcomes of a result, and their words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from notify_rig import HEALTHY, ILL
from outcomes import CUT, EXAMPLES, HIGH_BASE, NAMES, ONE_LUNG, UNOUTLINED

from chestct.findings import End, Findings, Outcome
from chestct.findings_json import findings_from_dict, findings_to_dict
from chestct.verdict import scope, short, verdict

EACH = pytest.mark.parametrize(("findings", "outcome"), EXAMPLES, ids=NAMES)


@EACH
def test_a_result_has_one_of_three_outcomes(findings: Findings, outcome: Outcome) -> None:
    assert findings.outcome is outcome
    assert bool(findings.indeterminate_reasons) == (outcome is Outcome.INDETERMINATE)


@EACH
def test_every_text_names_the_outcome_first(findings: Findings, outcome: Outcome) -> None:
    assert verdict(findings).startswith(outcome)
    assert short(findings).lower().startswith(outcome)
    assert len(short(findings)) <= 48, "lists of series cut long lines"


@EACH
def test_every_claim_says_its_scope(findings: Findings, outcome: Outcome) -> None:
    said = scope(findings)
    assert said.endswith("Nodules and masses are not assessed.")
    negative = "No ground-glass opacity or consolidation marked."
    assert said.startswith(negative) == (outcome is Outcome.NONE_MARKED)
    assert ("not a negative result" in said) == (outcome is Outcome.INDETERMINATE)


def test_lesions_are_found_whatever_else_is_true() -> None:
    assert replace(ILL, cut=(End.HEAD, End.FEET)).outcome is Outcome.FOUND


def test_every_reason_is_named() -> None:
    findings = replace(ONE_LUNG, presence=UNOUTLINED.presence, cut=(End.HEAD, End.FEET))
    assert verdict(findings) == (
        "indeterminate: positive score, nothing outlined; left lung not assessable; "
        "lungs cut at both ends"
    )
    assert verdict(CUT) == "indeterminate: lungs cut at the head end"
    assert verdict(HIGH_BASE) == "indeterminate: left base may hold no air"
    assert verdict(HEALTHY) == "none marked: ground-glass, consolidation"


def test_a_small_share_does_not_read_as_zero() -> None:
    assert ILL.total is not None
    little = replace(ILL, total=replace(ILL.total, involved_percent=0.02))
    assert verdict(little) == "opacities found: under 0.1 % of the lungs"


@EACH
def test_findings_come_back_from_json(findings: Findings, outcome: Outcome) -> None:
    plain = json.loads(json.dumps(findings_to_dict(findings)))
    assert plain["outcome"] == outcome
    assert findings_from_dict(plain) == findings


def test_findings_of_an_earlier_version_are_read() -> None:
    plain = json.loads(json.dumps(findings_to_dict(HEALTHY)))
    for new in ("cut", "higher_base", "outcome", "indeterminate_reasons"):
        del plain[new]
    assert findings_from_dict(plain) == HEALTHY


@pytest.mark.parametrize(
    ("slices", "cut", "reason"),
    [
        ("first", (End.EITHER,), "lungs cut at the head or feet end"),
        ("last", (End.EITHER,), "lungs cut at the head or feet end"),
        ("first and the last", (End.HEAD, End.FEET), "lungs cut at both ends"),
    ],
)
def test_cut_lungs_of_an_earlier_version_are_no_negative(
    slices: str, cut: tuple[End, ...], reason: str
) -> None:
    """Earlier versions flag the first or last slice, and do not say which end of the scan it is."""
    plain = json.loads(json.dumps(findings_to_dict(HEALTHY)))
    del plain["cut"]
    plain["quality_flags"] = [f"the lungs reach the {slices} slice: part may be missing"]
    findings = findings_from_dict(plain)
    assert findings.cut == cut
    assert findings.outcome is Outcome.INDETERMINATE
    assert verdict(findings) == f"indeterminate: {reason}"
    assert len(short(findings)) <= 48
    assert findings_from_dict(json.loads(json.dumps(findings_to_dict(findings)))) == findings
