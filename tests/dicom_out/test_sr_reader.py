"""A report that was written is read back as it was meant; anything else is no report of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from chest_cases import MODELS, both_lungs, healthy_lungs, left_lesion, make_case
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.results import Profile
from dicom_out.objects.sr_reader import NotOurReport, read_report


def report_of(folder: Path, **settings: object) -> Dataset:
    case = make_case(folder / "series", **settings)  # type: ignore[arg-type] - passed on
    return pydicom.dcmread(case.compose(folder / "out").objects[-1].path)


@pytest.mark.parametrize("labels", [both_lungs, left_lesion, healthy_lungs])
@pytest.mark.parametrize("kind", [Profile.OHIF, Profile.LABELMAP, Profile.PLAIN])
def test_what_was_written_is_read(
    labels: Callable[[], NDArray[object]], kind: Profile, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", labels=labels())  # type: ignore[arg-type] - uint8
    sr = case.compose(tmp_path / "out", kind).objects[-1]
    report = read_report(pydicom.dcmread(sr.path))
    findings = case.findings
    assert report.reference.sop_instance_uid == sr.sop_instance_uid
    assert report.reference.series_uid == sr.series_uid
    assert report.study_uid == sr.study_uid
    assert report.models == tuple(model.digest for model in MODELS)
    assert report.method == findings.method
    assert report.lesion_ml == pytest.approx(findings.total.lesion_ml, abs=0.005)
    assert report.involved_percent == pytest.approx(findings.total.involved_percent, abs=0.005)
    source = pydicom.dcmread(case.series.instances[0].path)
    assert report.patient[0].decode() == source.PatientID
    assert f"{report.acquired:%Y%m%d}" == source.StudyDate


def _without(keyword: str) -> Callable[[Dataset], None]:
    return lambda report: report.__delattr__(keyword)


def _deep(report: Dataset) -> None:
    inner = report.ContentSequence
    for _ in range(40):
        item = Dataset()
        item.ContentSequence = inner
        inner = [item]
    report.ContentSequence = inner


def _other_maker(report: Dataset) -> None:
    report.Manufacturer = "Somebody Else"


def _other_kind(report: Dataset) -> None:
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"


def _bad_uid(report: Dataset) -> None:
    report["SOPInstanceUID"]._value = "no uid"


@pytest.mark.parametrize(
    "change",
    [
        _other_maker,
        _other_kind,
        _deep,
        _bad_uid,
        _without("ContentSequence"),
        _without("StudyDate"),
        _without("SeriesInstanceUID"),
        lambda report: setattr(report, "StudyDate", ""),
    ],
)
def test_anything_else_is_refused_in_one_way(
    change: Callable[[Dataset], None], tmp_path: Path
) -> None:
    report = report_of(tmp_path)
    read_report(report)
    change(report)
    with pytest.raises(NotOurReport):
        read_report(report)
    with pytest.raises(NotOurReport):
        read_report(Dataset())
