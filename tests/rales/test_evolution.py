"""The choice of the prior, and what may be subtracted from it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chest_cases import both_lungs, make_case
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from prior_results import NOW, acquisition_context
from pydicom.dataset import Dataset

from chestct.evolution import Comparison, Evolution, PriorResult, compare
from chestct.findings import Extent, Findings, LungMeasurement, OpacityMeasurement
from chestct.method import Method, Presence
from chestct.results import ResultReference
from chestct.uids import Uid, derive_uid
from dicom_out.objects.acquisition import read_acquisition
from rales.pictures.trend import draw_trend, write_trend

PRESENT = acquisition_context(birth_date="1950", sex="m")

_LUNG = LungMeasurement(
    volume_ml=2000.0,
    lesion_ml=0.0,
    involved_percent=0.0,
    high_opacity_percent=0.0,
    lesion_mean_hu=None,
)
HEALTHY = Findings(
    left=_LUNG,
    right=_LUNG,
    total=_LUNG,
    lesions=(),
    presence=Presence(score=0.0, operating_point=0.5),
    extent=Extent.NONE,
    method=Method(),
    ground_glass=OpacityMeasurement(volume_ml=0.0, mean_hu=None),
    consolidation=OpacityMeasurement(volume_ml=0.0, mean_hu=None),
)


def prior(
    study: str = "1.2", *, days: float = 14, percent: float = 4.0, **changes: Any
) -> PriorResult:
    made = replace(PRESENT, study_uid=Uid(study), acquired=NOW - timedelta(days=days), **changes)
    return PriorResult(
        context=made,
        report=ResultReference(
            study_uid=Uid(study),
            series_uid=Uid("2.1"),
            sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.88.34"),
            sop_instance_uid=derive_uid("sr", study, str(percent)),
        ),
        lesion_ml=percent * 40,
        involved_percent=percent,
    )


UNSURE = replace(HEALTHY, presence=Presence(score=0.9, operating_point=0.5))
"""A positive score with nothing outlined."""


@pytest.mark.parametrize(("present", "stated"), [(UNSURE, True), (HEALTHY, False), (UNSURE, False)])
def test_an_indeterminate_result_is_never_subtracted(present: Findings, *, stated: bool) -> None:
    """From 4 % to an amount that nobody knows is no improvement."""
    earlier = replace(prior("1.2", percent=4), states_opacity=stated)
    evolution = compare(present, PRESENT, [earlier])
    assert evolution is not None
    assert evolution.comparison is Comparison.INDETERMINATE
    assert not evolution.is_comparable
    assert [percent for _, percent in evolution.trend] == ([] if present is UNSURE else [0.0])


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return make_case(tmp_path_factory.mktemp("case"), labels=both_lungs()).findings


def test_the_nearest_earlier_study_is_subtracted(findings: Findings) -> None:
    evolution = compare(
        findings, PRESENT, [prior("1.2", days=30, percent=9), prior("1.3", days=14, percent=2)]
    )
    assert evolution is not None
    assert evolution.prior.context.study_uid == "1.3"
    assert evolution.interval_days == 14
    assert evolution.comparison is Comparison.COMPARABLE
    assert evolution.involved_change == pytest.approx(findings.total.involved_percent - 2)
    assert evolution.lesion_ml_change == pytest.approx(findings.total.lesion_ml - 80)
    assert [percent for _, percent in evolution.trend] == [
        9,
        2,
        findings.total.involved_percent,
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"patient": "another"},
        {"patient": ""},
        {"birth_date": "1951"},
        {"sex": "f", "birth_date": ""},
        {"days": 0.1, "has_time": False},
        {"study": "1.1"},
        {"days": -1},
        {"days": 0},
    ],
)
def test_another_patient_study_or_time_is_no_prior(
    findings: Findings, changes: dict[str, Any]
) -> None:
    assert compare(findings, PRESENT, [prior(**changes)]) is None


def test_a_patient_without_identifier_has_no_prior(findings: Findings) -> None:
    nobody = replace(PRESENT, patient="")
    assert compare(findings, nobody, [prior(patient="")]) is None


def test_a_birth_date_that_one_study_lacks_contradicts_nothing(findings: Findings) -> None:
    assert compare(findings, PRESENT, [prior(birth_date="", sex="")]) is not None


@pytest.mark.parametrize(
    ("changes", "comparison"),
    [
        ({"models": "old"}, Comparison.OTHER_MODEL),
        ({"settings": "old"}, Comparison.OTHER_SETTINGS),
    ],
)
def test_a_prior_made_otherwise_is_named_and_not_replaced_by_an_older_one(
    findings: Findings, changes: dict[str, Any], comparison: Comparison
) -> None:
    evolution = compare(findings, PRESENT, [prior("1.2", **changes), prior("1.3", days=60)])
    assert evolution is not None
    assert evolution.prior.context.study_uid == "1.2"
    assert evolution.comparison is comparison
    assert not evolution.is_comparable
    assert len(evolution.trend) == 2


def test_of_one_study_the_series_made_most_alike_counts(findings: Findings) -> None:
    evolution = compare(
        findings,
        PRESENT,
        [
            prior(percent=1, kernel="B30f"),
            prior(percent=2, slice_spacing_mm=5.0),
            prior(percent=3),
            prior(percent=4, models="old"),
        ],
    )
    assert evolution is not None
    assert evolution.prior.involved_percent == 3
    assert [percent for _, percent in evolution.trend][:-1] == [3]


@given(
    st.lists(
        st.tuples(st.sampled_from(["1.1", "1.2", "1.3", "1.4"]), st.integers(-5, 60)), max_size=6
    )
)
def test_a_prior_is_always_earlier_and_of_another_study(studies: list[tuple[str, int]]) -> None:
    evolution = compare(HEALTHY, PRESENT, [prior(uid, days=days) for uid, days in studies])
    possible = [days for uid, days in studies if uid != "1.1" and days > 0]
    assert (evolution is None) is (not possible)
    if evolution is not None:
        assert evolution.interval_days == min(possible)
        assert evolution.prior.context.study_uid != "1.1"
        times = [at for at, _ in evolution.trend]
        assert times == sorted(times)


def test_what_the_images_say_of_their_time_and_patient(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.StudyDate, dataset.StudyTime = "20260101", "080000"
        dataset.AcquisitionDate, dataset.AcquisitionTime = "20260102", "0931"
        dataset.PatientBirthDate, dataset.PatientSex = "19500101", "M"
        dataset.ConvolutionKernel = "B70f"

    case = make_case(tmp_path, change=change)
    found = read_acquisition(case.series.instances[0].path)
    assert found is not None
    assert found.acquired == datetime.fromisoformat("2026-01-02T09:31")
    assert found.is_identified
    assert (found.birth_date, found.sex, found.has_time) == ("19500101", "M", True)
    assert found.kernel == "B70f"


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per frame"])
def test_the_kernel_of_a_multi_frame_image_is_that_of_its_frames(
    tmp_path: Path, *, shared: bool
) -> None:
    def change(dataset: Dataset) -> None:
        dataset.StudyDate = "20260101"
        reconstruction = Dataset()
        reconstruction.ConvolutionKernel = "Br59"
        groups = dataset.SharedFunctionalGroupsSequence
        for one in groups if shared else dataset.PerFrameFunctionalGroupsSequence:
            one.CTReconstructionSequence = [reconstruction]

    case = make_case(tmp_path, change=change, enhanced=True)
    found = read_acquisition(case.series.instances[0].path)
    assert found is not None
    assert found.kernel == "Br59"


def test_a_date_with_a_time_goes_before_one_without(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.AcquisitionDate = "20260102"
        dataset.AcquisitionTime = ""
        dataset.StudyDate, dataset.StudyTime = "20260102", "080000.25"

    case = make_case(tmp_path, change=change)
    found = read_acquisition(case.series.instances[0].path)
    assert found is not None
    assert (found.acquired, found.has_time) == (datetime.fromisoformat("2026-01-02T08:00"), True)


@pytest.mark.parametrize("date", ["", "2026", "20261399", "unknown"])
def test_images_without_a_date_have_no_evolution(tmp_path: Path, date: str) -> None:
    def change(dataset: Dataset) -> None:
        for keyword in ("StudyDate", "StudyTime", "AcquisitionDate", "SeriesDate"):
            if keyword in dataset:
                del dataset[keyword]
        if date:
            dataset.add_new("StudyDate", "LO", date)

    case = make_case(tmp_path, change=change)
    assert read_acquisition(case.series.instances[0].path) is None


def test_the_trend_is_drawn_where_its_numbers_are(findings: Findings, tmp_path: Path) -> None:
    evolution = compare(
        findings, PRESENT, [prior("1.2", days=30, percent=0.5), prior("1.3", days=15, percent=20)]
    )
    assert isinstance(evolution, Evolution)
    write_trend(tmp_path / "trend.png", evolution)
    picture = np.asarray(Image.open(tmp_path / "trend.png").convert("RGB")).astype(int)
    line = (picture == (255, 80, 60)).all(axis=2)
    columns = np.flatnonzero(line.any(axis=0))
    middle = (columns[0] + columns[-1]) // 2
    heights = [
        np.flatnonzero(line[:, at]).mean() for at in (columns[0] + 5, middle, columns[-1] - 5)
    ]
    assert heights[1] < heights[0], "20 percent stands above half a percent"


def test_the_dates_of_many_studies_are_not_written_over_one_another(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [prior(f"1.2.{days}", days=days, percent=3) for days in range(1, 40)]
    evolution = compare(findings, PRESENT, studies)
    assert evolution is not None
    written: list[tuple[float, float, str]] = []
    draw = ImageDraw.ImageDraw.text

    def spy(self: ImageDraw.ImageDraw, at: tuple[float, float], text: str, **more: Any) -> None:
        written.append((at[0], at[0] + self.textlength(text, font=more["font"]), text))
        draw(self, at, text, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    draw_trend(evolution)
    dates = sorted(one for one in written if re.fullmatch(r"\d{4}-\d\d-\d\d", one[2]))
    assert all(one[1] < other[0] for one, other in pairwise(dates))
    assert len(dates) > 3
    assert dates[-1][2] == f"{PRESENT.acquired:%Y-%m-%d}"
