"""The ten series of ../shared/cases, through the whole main job: what its table says comes out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from judges import require_valid, segments_of

from chestct.errors import RejectReason, SeriesRejected
from chestct.findings_json import findings_to_dict
from chestct.volume import Volume
from inference.reading.analysis import Analysis
from rales.analysis import pipeline
from rales.analysis.pipeline import AnalysisRequest, run
from rales.analysis.settings import settings_of
from rales.cli.scanning import scan
from rales.config.file import parse
from rales.state.results import AnalysisReport

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:(Invalid|The) value:UserWarning"),
]

AS_THE_SOURCE = (
    "leading_zero_uid",
    "empty_number_of_frames",
    "comma_in_thickness",
    "orientation_noise",
    "carets_in_names",
    "fill_of_0_hu",
    "screenshot_among_slices",
    "page_without_position",
)
VERBATIM = {"leading_zero_uid": "Leading zeroes in embedded"}
"""What a validator says of the values that are taken over as they are."""
ASIDE = {"screenshot_among_slices", "page_without_position"}
FIRST_ROUNDED = 25
"""In the series of 3 mm that it is made of, this slice is the first of those of 0.625 mm."""
FEW_VOXELS_ML = 0.1
"""Of the 3 ml that the source has in its left lung, a percent is less than ten voxels."""
Analyse = Callable[[Path], AnalysisReport]


@pytest.fixture(scope="module")
def analyse(
    tmp_path_factory: pytest.TempPathFactory,
) -> Analyse:
    """Analyse a folder. The networks read the same voxels on the same grid once."""
    settings = settings_of(parse({"analysis": {"providers": ["CPU"], "threads": 1}}))
    known: dict[tuple[object, bytes], Analysis] = {}
    once = pipeline.analyse

    def remembering(volume: Volume, *rest: object) -> Analysis:
        key = (volume.geometry, volume.hu.tobytes())
        if key not in known:
            known[key] = once(volume, *rest)  # type: ignore[arg-type]
        return known[key]

    def analysed(folder: Path) -> AnalysisReport:
        found = scan(sorted(folder.iterdir()))
        assert not found.skipped
        (series,) = found.series
        request = AnalysisRequest(
            series=series,
            settings=settings,
            folder=tmp_path_factory.mktemp("out"),
            created=datetime(2026, 1, 2, tzinfo=UTC),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "analyse", remembering)
            return run(request)

    return analysed


@pytest.fixture(scope="module")
def cases(shared_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    script = shared_root / "cases" / "make_cases.py"
    if not script.exists():
        pytest.skip("../shared/cases is not on this machine")
    command = [sys.executable, "-W", "ignore", str(script), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def source(shared_root: Path, analyse: Analyse) -> AnalysisReport:
    return analyse(shared_root / "data/chest-ct/lungdx-5mm")


def require_same_volumes(report: AnalysisReport, wanted: AnalysisReport) -> None:
    for side in ("left", "right", "total"):
        before, after = getattr(wanted.findings, side), getattr(report.findings, side)
        assert after.volume_ml == pytest.approx(before.volume_ml, rel=0.01)
        # Fill of 0 HU blends with the body where the frame's pixels meet the circle.
        assert after.lesion_ml == pytest.approx(before.lesion_ml, rel=0.02, abs=FEW_VOXELS_ML)


@pytest.mark.parametrize("name", AS_THE_SOURCE)
def test_a_habit_of_a_hospital_changes_nothing(
    cases: Path, analyse: Analyse, source: AnalysisReport, name: str
) -> None:
    report = analyse(cases / name)
    require_same_volumes(report, source)
    wanted = source.findings.quality_flags
    notes = [one for one in report.findings.quality_flags if one not in wanted]
    assert set(wanted) <= set(report.findings.quality_flags)
    assert len(notes) == (name in ASIDE)
    uids = {
        path: str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in sorted((cases / name).iterdir())
    }
    aside = list(uids.values())[64:]
    assert all(uid in note for uid, note in zip(aside, notes, strict=True))
    seg, _ = (pydicom.dcmread(item.path) for item in report.results.objects)
    (series,) = seg.ReferencedSeriesSequence
    named = {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedInstanceSequence}
    assert named == set(list(uids.values())[:64])
    for item in report.results.objects:
        require_valid(item.path, VERBATIM.get(name, ""))


def test_rounded_positions_change_no_volume(
    cases: Path, shared_root: Path, analyse: Analyse, tmp_path: Path
) -> None:
    """Against the same slices of 0.625 mm with the positions that they were made at."""
    heights = sorted(
        float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
        for path in (shared_root / "data/chest-ct/cptac-lung-3mm-b70f").glob("*.dcm")
    )
    for number, path in enumerate(sorted((cases / "positions_rounded").iterdir())):
        dataset = pydicom.dcmread(path)
        exact = heights[FIRST_ROUNDED] + 0.625 * number
        assert float(dataset.ImagePositionPatient[2]) == pytest.approx(exact, abs=0.0501)
        dataset.ImagePositionPatient[2] = f"{exact:.4f}"
        dataset.save_as(tmp_path / path.name)
    report = analyse(cases / "positions_rounded")
    require_same_volumes(report, analyse(tmp_path))
    for item in report.results.objects:
        require_valid(item.path)


def test_a_white_lung_is_never_0_percent_and_no_segment_of_it_lies_on_the_other_side(
    cases: Path, analyse: Analyse, tmp_path: Path
) -> None:
    try:
        report = analyse(cases / "one_lung_opaque")
    except SeriesRejected as error:
        refused = error
    else:
        require_no_left_lung(report, cases / "one_lung_opaque" / "0000.dcm", tmp_path)
        return
    assert refused.reason is RejectReason.LUNG_NOT_ASSESSABLE
    assert "the left lung is not assessable" in str(refused)


def require_no_left_lung(report: AnalysisReport, image: Path, folder: Path) -> None:
    left = findings_to_dict(report.findings)["left"]
    assert "involved_percent" not in left, "nothing is stated of it, and never 0 percent"
    assert any("left lung" in note for note in report.findings.quality_flags)
    first = pydicom.dcmread(image, stop_before_pixels=True)
    half = first.PixelSpacing[1] * (first.Columns - 1) / 2
    middle = float(first.ImagePositionPatient[0]) + float(half)
    seg = next(item.path for item in report.results.objects if item.role == "seg")
    for label, points in segments_of(seg, folder / "segments").items():
        assert "left" not in label.lower() or not np.any(points[:, 0] < middle - 20)
