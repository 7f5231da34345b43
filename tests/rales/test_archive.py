"""What an archive offers as earlier results is taken only when it is surely the patient's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from chest_cases import Case, make_case
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from chestct.errors import AnalysisStopped
from chestct.evolution import AcquisitionContext, Comparison, compare
from chestct.series import Series
from chestct.uids import digest
from dicom_out.network.allowance import Conversations
from dicom_out.network.prior_reports import ReportQuery
from dicom_out.network.query import ArchiveUnavailable
from rales.analysis.archive import PriorReports, find_prior_reports

pytestmark = pytest.mark.slow


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "series")


def report_of(case: Case, folder: Path) -> Dataset:
    return pydicom.dcmread(case.compose(folder).objects[-1].path)


def identified(case: Case) -> Series:
    """Return the series with the patient key that the receiver gives it."""
    from rales.cli.scanning import scan  # noqa: PLC0415

    return scan([one.path for one in case.series.instances]).series[0]


def found_of(case: Case, reports: Sequence[Dataset]) -> PriorReports:
    return find_prior_reports(
        identified(case), fetch=lambda _: reports, days=100, conversations=Conversations()
    )


def test_a_report_of_the_patient_is_a_prior(case: Case, tmp_path: Path) -> None:
    (prior,) = found_of(case, [report_of(case, tmp_path / "out")]).results
    made = prior.context
    assert prior.lesion_ml == pytest.approx(case.findings.total.lesion_ml, abs=0.005)
    present = AcquisitionContext(
        study_uid=replace_last(made.study_uid),
        acquired=made.acquired + timedelta(days=30),
        has_time=True,
        patient=identified(case).instances[0].patient_key,
        birth_date=made.birth_date,
        sex=made.sex,
        models=digest(["ab" * 32, "cd" * 32]),
        settings=digest([repr(case.findings.method)]),
        kernel="B",
        slice_spacing_mm=3.0,
    )
    evolution = compare(case.findings, present, [prior])
    assert evolution is not None
    assert evolution.comparison is Comparison.COMPARABLE
    assert evolution.interval_days == 30
    assert evolution.lesion_ml_change == pytest.approx(0, abs=0.01)
    other = compare(case.findings, replace(present, models="x"), [prior])
    assert other is not None
    assert other.comparison is Comparison.OTHER_MODEL
    same_day = replace(present, acquired=made.acquired + timedelta(hours=1))
    assert compare(case.findings, same_day, [prior]) is None, "the report knows the day only"


def replace_last(uid: str) -> str:
    return uid[:-1] + str((int(uid[-1]) + 1) % 10)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientID", "ANOTHER"), ("PatientName", "Somebody^Else"), ("IssuerOfPatientID", "CITY")],
)
def test_a_report_of_somebody_else_is_none(
    case: Case, keyword: str, value: str, tmp_path: Path
) -> None:
    report = report_of(case, tmp_path / "out")
    assert found_of(case, [report]).results
    setattr(report, keyword, value)
    assert found_of(case, [report]).results == ()


@pytest.mark.filterwarnings("ignore:The PN component length:UserWarning")
def test_a_report_on_images_with_an_invalid_name_is_a_prior(tmp_path: Path) -> None:
    """The report carries the name in valid form, which differs from that of the images."""

    def change(dataset: Dataset) -> None:
        dataset.PatientName = "x" * 70

    case = make_case(tmp_path / "series", change=change)
    report = report_of(case, tmp_path / "out")
    assert found_of(case, [report]).results
    assert report.PatientName == "x" * 64


def test_what_is_no_report_of_ours_is_left_out(case: Case, tmp_path: Path) -> None:
    foreign = report_of(case, tmp_path / "out")
    foreign.Manufacturer = "Somebody Else"
    found = found_of(case, [Dataset(), foreign, report_of(case, tmp_path / "again")])
    assert len(found.results) == 1


def test_the_newest_revision_comes_first(case: Case, tmp_path: Path) -> None:
    old, new = report_of(case, tmp_path / "old"), report_of(case, tmp_path / "new")
    new.ContentDate, new.SOPInstanceUID = "20990101", "2.25.99"
    first, second = found_of(case, [old, new]).results
    assert (first.report.sop_instance_uid, second.report.sop_instance_uid) == (
        "2.25.99",
        old.SOPInstanceUID,
    )


def test_an_archive_that_cannot_be_asked_is_said_and_raises_nothing(case: Case) -> None:
    def fail(_wanted: ReportQuery) -> Sequence[Dataset]:
        raise ArchiveUnavailable("it takes too long")

    found = find_prior_reports(
        identified(case), fetch=fail, days=100, conversations=Conversations()
    )
    assert found == PriorReports(trouble="it takes too long")


def test_an_archive_that_a_stop_cuts_off_costs_the_analysis_no_prior(case: Case) -> None:
    def fail(_: ReportQuery) -> list[Dataset]:
        raise ArchiveUnavailable("it was cut off")

    under_way = Conversations()
    under_way.cut("the node stops")
    with pytest.raises(AnalysisStopped):
        find_prior_reports(identified(case), fetch=fail, days=100, conversations=under_way)


@pytest.mark.parametrize("identifier", ["*", "A?", "A\\B", " "])
def test_an_identifier_that_is_a_pattern_asks_for_nobody(identifier: str) -> None:
    header = Dataset()
    header.PatientID = identifier
    wanted = ReportQuery(header=header, until=pydicom.valuerep.DA("20260110"), days=9)
    assert wanted.patient_id == ""
    assert wanted.dates == "20260101-20260110"


@pytest.mark.parametrize("figure", ["nan", "inf", "-5", "1e9"])
def test_figures_that_no_lung_has_are_no_prior(case: Case, tmp_path: Path, figure: str) -> None:
    report = report_of(case, tmp_path / "out")
    with disable_value_validation():
        for child in report.ContentSequence:
            for item in child.iterall():
                if item.keyword == "NumericValue":
                    item.value = figure
    assert found_of(case, [report]).results == ()
