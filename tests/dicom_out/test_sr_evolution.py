"""What the report says of the change since the prior study, read back from its bytes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from chest_cases import Case, both_lungs, healthy_lungs, make_case
from prior_results import PRIOR_REPORT, PRIOR_STUDY, evolution_after, report_reference
from pydicom.dataset import Dataset

from chestct.results import Profile

DCIODVFY = Path(sys.executable).with_name("dciodvfy")


def _sr(case: Case, folder: Path, **changes: Any) -> tuple[Dataset, Path]:
    evolution = evolution_after(case.findings, **changes)
    path = case.compose(folder, evolution=evolution).objects[-1].path
    return pydicom.dcmread(path), path


def _numbers(item: Dataset) -> dict[str, float]:
    found = {}
    if item.get("ValueType") == "NUM":
        name = item.ConceptNameCodeSequence[0].CodeValue
        found[name] = float(item.MeasuredValueSequence[0].NumericValue)
    for child in item.get("ContentSequence", ()):
        found |= _numbers(child)
    return found


def _sentences(sr: Dataset) -> list[str]:
    return [one.TextValue for one in sr.ContentSequence if one.ValueType == "TEXT"]


@pytest.mark.parametrize("labels", [both_lungs(), healthy_lungs()])
def test_changes_and_prior_are_stated(tmp_path: Path, labels: Any) -> None:
    case = make_case(tmp_path / "in", labels=labels)
    sr, path = _sr(case, tmp_path / "out")
    total = case.findings.total
    numbers = _numbers(sr)
    assert numbers["LESION_ML_CHANGE"] == pytest.approx(total.lesion_ml - 100, abs=0.006)
    assert numbers["PCT_CHANGE"] == pytest.approx(total.involved_percent - 10, abs=0.006)
    assert numbers["INTERVAL"] == 14
    (evidence,) = sr.PertinentOtherEvidenceSequence
    reference = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == PRIOR_REPORT
    assert evidence.StudyInstanceUID == PRIOR_STUDY
    (said,) = [one for one in _sentences(sr) if "Compared with" in one]
    assert "2026-03-01, 14 days before" in said
    assert PRIOR_REPORT in said
    if DCIODVFY.exists():
        checked = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False)
        assert "Error" not in checked.stdout + checked.stderr


@pytest.mark.parametrize("profile", [Profile.SLICER, Profile.PLAIN, Profile.LABELMAP])
def test_each_profile_names_the_prior_report_that_its_destination_has(
    profile: Profile, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "in")
    evolution = evolution_after(case.findings)
    assert evolution is not None
    own = report_reference(profile)
    prior = replace(evolution.prior, other_reports={profile: own})
    objects = case.compose(
        tmp_path / "out", Profile.OHIF, profile, evolution=replace(evolution, prior=prior)
    ).objects
    for role, wanted in (("sr", PRIOR_REPORT), (profile.role("sr"), own.sop_instance_uid)):
        sr = pydicom.dcmread(next(item.path for item in objects if item.role == role))
        (evidence,) = sr.PertinentOtherEvidenceSequence
        reference = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == wanted
        assert any(wanted in text for text in _sentences(sr))


def test_a_prior_of_other_models_is_named_and_not_subtracted(tmp_path: Path) -> None:
    sr, _ = _sr(make_case(tmp_path / "in"), tmp_path / "out", models="old")
    assert not _numbers(sr).keys() & {"LESION_ML_CHANGE", "PCT_CHANGE", "INTERVAL"}
    (said,) = [one for one in _sentences(sr) if "Not compared with" in one]
    assert "made by other models" in said
    assert PRIOR_REPORT in said
    assert len(sr.PertinentOtherEvidenceSequence) == 1


def test_without_a_prior_nothing_is_said(tmp_path: Path) -> None:
    sr, _ = _sr(make_case(tmp_path / "in"), tmp_path / "out", patient="another")
    assert "PertinentOtherEvidenceSequence" not in sr
    assert not any("ompared with" in one for one in _sentences(sr))
