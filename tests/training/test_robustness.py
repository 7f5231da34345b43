"""The robustness table: what passes, what does not and why, and how it is continued."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra rales[train] is not installed")

from click.testing import CliRunner, Result
from hu_models import LesionsKnown, LungsByHu, models
from linear_models import volume_of
from numpy.typing import NDArray

from chestct.errors import RejectReason, SeriesRejected
from chestct.findings import Extent, Findings, LungMeasurement, OpacityMeasurement
from chestct.method import Method, Presence
from chestct.volume import LesionMap, Volume
from inference.reading.analysis import Analysis
from training.readings.reading import Call, Reading, read_volume
from training.report.robustness import robustness_section
from training.robustness import command, greys, grids
from training.robustness.judge import judge
from training.robustness.perturbations import Perturbation
from training.robustness.records import (
    ChestRecord,
    RobustnessRecord,
    RowRecord,
    Verdict,
    read_record,
    write_record,
)

pytestmark = pytest.mark.train

LUNG, LESION, BODY = -800, 0, 200
NETWORKS = models(LungsByHu(), LesionsKnown(lesion=np.zeros((1, 1, 1), bool)))


def analyse_by_hu(volume: Volume, *_: object) -> Analysis:
    """Take what is near LUNG for lung and what is near LESION for lesion, by halves of a row."""
    sides = np.where(np.arange(volume.hu.shape[2]) < volume.hu.shape[2] // 2, 2, 1)
    lesion, lung = (np.abs(volume.hu - value) < 60 for value in (LESION, LUNG))
    labels = ((lung | lesion) * sides + 2 * lesion).astype(np.uint8)
    if not lung.any():
        raise SeriesRejected(RejectReason.NO_LUNGS, "no lung was found")
    lesion_map = LesionMap(labels=labels, geometry=volume.geometry)
    ml = volume.geometry.voxel_ml
    total, left, right = (
        _measured(mask, lesion, ml)
        for mask in (labels > 0, lesion_map.left_lung(), lesion_map.right_lung())
    )
    return Analysis(
        lesion_map=lesion_map,
        findings=Findings(
            left=left,
            right=right,
            total=total,
            lesions=(),
            presence=Presence(score=min(1.0, total.lesion_ml), operating_point=0.5),
            extent=Extent.NONE,
            method=Method(),
            ground_glass=OpacityMeasurement(volume_ml=0.0, mean_hu=None),
            consolidation=OpacityMeasurement(volume_ml=0.0, mean_hu=None),
        ),
        models=(),
        seconds={},
    )


def _measured(mask: NDArray[np.bool_], lesion: NDArray[np.bool_], ml: float) -> LungMeasurement:
    marked = int((mask & lesion).sum())
    return LungMeasurement(
        volume_ml=int(mask.sum()) * ml,
        lesion_ml=marked * ml,
        involved_percent=100.0 * marked / max(1, int(mask.sum())),
        high_opacity_percent=0.0,
        lesion_mean_hu=None,
    )


@pytest.fixture(autouse=True)
def _by_hu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.readings.reading.analyse", analyse_by_hu)
    monkeypatch.setattr(command, "load_models", lambda *_, **__: NETWORKS)


def chest(*, lesion: bool = True) -> Reading:
    """Read a chest of 10 by 40 by 60 voxels, with a lesion of 0.62 ml in the middle of a lung."""
    hu = np.full((10, 40, 60), BODY, dtype=np.int16)
    hu[:, 5:35, 5:25] = hu[:, 5:35, 35:55] = LUNG
    if lesion:
        hu[2:6, 15:25, 10:16] = LESION
        hu[2:6, 15:21, 16:18] = LESION
    return read_volume(volume_of(hu), NETWORKS, lambda _stage, _part: None)


def row_of(
    change: Callable[[Volume], Volume | None], reference: Reading | None = None, **options: Any
) -> RowRecord:
    perturbation = Perturbation(name="change", change=change, **options)
    return judge(perturbation, reference or chest(), NETWORKS, lambda _stage, _part: None)


def changed(edit: Callable[[NDArray[np.int16]], None]) -> Callable[[Volume], Volume]:
    def change(volume: Volume) -> Volume:
        hu = volume.hu.copy()
        edit(hu)
        return replace(volume, hu=hu)

    return change


def test_the_same_reading_passes_with_its_numbers() -> None:
    row = row_of(lambda volume: volume)
    assert (row.verdict, row.reason) == (Verdict.PASSED, "")
    assert row.lesion_ratio == row.lung_ratio == 1.0
    assert row.numbers is not None
    assert row.numbers.call is Call.POSITIVE
    assert row.numbers.lesion_ml == pytest.approx(4 * 72 * 0.8 * 0.9 * 3 / 1000)


@pytest.mark.parametrize("change", [grids.stored_upside_down, grids.stored_turned, grids.mirrored])
def test_the_same_patient_stored_in_another_way_passes(
    change: Callable[[Volume], Volume],
) -> None:
    assert row_of(change, lesion_change=0, lung_change=0).verdict is Verdict.PASSED


def test_another_call_is_named_and_no_volume_beside_it() -> None:
    def heal(hu: NDArray[np.int16]) -> None:
        hu[hu == LESION] = LUNG

    def sicken(hu: NDArray[np.int16]) -> None:
        hu[6:10, 10:30, 38:50] = LESION

    row = row_of(changed(heal))
    assert (row.verdict, row.reason) == (Verdict.CHANGED, "called negative, not positive")
    row = row_of(changed(sicken), chest(lesion=False))
    assert row.reason == "called positive, not negative"
    assert row.lesion_ratio is None


def test_volumes_may_differ_by_the_allowed_part_only() -> None:
    def shrink(hu: NDArray[np.int16]) -> None:
        hu[2:6, 15:21, 16:18] = LUNG  # 12 of 72 pixels a slice

    row = row_of(changed(shrink))
    assert (row.verdict, row.reason) == (Verdict.CHANGED, "lesion volume 0.833 of before")
    assert row_of(changed(shrink), lesion_change=0.25).verdict is Verdict.PASSED

    def press(hu: NDArray[np.int16]) -> None:
        hu[:, 5:8, :] = BODY

    assert row_of(changed(press)).reason == "lung volume 0.900 of before"
    assert row_of(changed(press), lung_change=0.11).verdict is Verdict.PASSED


def test_a_chest_without_lesions_stays_clean() -> None:
    def spot(hu: NDArray[np.int16]) -> None:
        hu[:, 15:18, 10:15] = LESION  # too little for the call

    row = row_of(changed(spot), chest(lesion=False))
    assert (row.verdict, row.reason) == (Verdict.CHANGED, "1.2 % involved")


def test_a_refusal_says_why_and_a_change_may_not_apply() -> None:
    def whiten(hu: NDArray[np.int16]) -> None:
        hu[:] = BODY

    row = row_of(changed(whiten))
    assert (row.verdict, row.reason) == (Verdict.REFUSED, "no-lungs-found: no lung was found")
    assert row.numbers is row.lung_ratio is None
    assert row_of(lambda _: None).verdict is Verdict.NOT_APPLICABLE


def test_a_failing_analysis_is_a_changed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = chest()

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("training.readings.reading.analyse", fail)
    row = row_of(lambda volume: volume, reference)
    assert (row.verdict, row.reason) == (Verdict.CHANGED, "RuntimeError: broken")


def test_a_crop_is_compared_with_what_it_still_shows() -> None:
    def middle(labels: NDArray[np.uint8], _: object) -> NDArray[np.uint8]:
        rows, columns = grids.central(labels.shape, 0.6)
        return labels[:, rows, columns]

    def crop(volume: Volume) -> Volume:
        return grids.cropped(volume, share=0.6)

    row = row_of(crop, visible=middle)
    assert row.lung_ratio == 1.0
    assert row_of(crop).reason.endswith("of before")


def test_noise_that_the_reading_cannot_bear_changes_it() -> None:
    assert row_of(lambda volume: greys.noisy(volume, sd=5, seed=1)).verdict is Verdict.PASSED
    assert row_of(lambda volume: greys.noisy(volume, sd=80, seed=1)).verdict is Verdict.CHANGED


@pytest.fixture
def run(small_series: Path, tmp_path: Path) -> Callable[..., Result]:
    shutil.copytree(small_series, tmp_path / "in/ill")

    def run(*arguments: str) -> Result:
        words = [str(tmp_path / "in"), "--json", str(tmp_path / "table.json")]
        return CliRunner().invoke(command.robustness, [*words, *arguments])

    return run


def test_the_command_prints_and_saves_rows_and_continues_where_it_stopped(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run("--only", "rows-flipped")
    assert result.exit_code == 0, result.output
    assert "ill: unperturbed" in result.stdout
    assert "ill: rows-flipped" in result.stdout
    assert "all chests: 1 of 1 rows passed, 0 were refused" in result.stdout
    result = run("--only", "rows-flipped", "--only", "fov-70")
    assert "(of the table)" in result.stdout
    record = read_record(tmp_path / "table.json")
    assert [row.perturbation for row in record.chests[0].rows] == ["fov-70", "rows-flipped"]

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(command, "read_series", fail)
    result = run("--only", "fov-70")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("(of the table)") == 2


def test_a_refused_chest_is_named_and_has_no_rows(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "in/ill/0030.dcm").unlink()
    result = run()
    assert result.exit_code == 0, result.output
    assert "ill: not read: missing-slices: " in result.stdout
    (chest_record,) = read_record(tmp_path / "table.json").chests
    assert chest_record.reference is None
    assert chest_record.rows == ()


def test_a_table_of_other_models_is_not_continued(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    write_record(tmp_path / "table.json", RobustnessRecord(models=("a", "b"), chests=()))
    result = run()
    assert result.exit_code == 1
    assert "is a table of other models: name another file" in result.output
    (tmp_path / "table.json").write_text(json.dumps({"models": 3}))
    result = run()
    assert result.exit_code == 1
    assert "is no robustness table" in result.output


def table() -> RobustnessRecord:
    reference = chest()
    rows = (
        row_of(lambda volume: volume),
        replace(row_of(lambda volume: grids.cropped(volume, share=0.6)), perturbation="fov"),
        RowRecord(perturbation="matrix", verdict=Verdict.REFUSED, reason="too-coarse: 2.7 mm"),
        RowRecord(perturbation="thin", verdict=Verdict.NOT_APPLICABLE),
    )
    assert reference.analysis is not None
    ill = ChestRecord(
        name="ill", series_uid="1.2", reference=rows[0].numbers, refusal="", rows=rows
    )
    out = ChestRecord(name="out", series_uid="1.3", reference=None, refusal="no: lungs", rows=())
    return RobustnessRecord(models=("a",), chests=(ill, out))


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    write_record(tmp_path / "t.json", table())
    assert read_record(tmp_path / "t.json") == table()
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_the_report_has_a_line_per_perturbation_and_a_column_per_chest() -> None:
    text = robustness_section(table())
    lines = text.splitlines()
    assert any(line.startswith("| change | 1.00 | - | 1 of 1 |") for line in lines)
    assert any(line.startswith("| fov | **changed** | - | 0 of 1 |") for line in lines)
    assert any(line.startswith("| matrix | refused | - | 0 of 1 |") for line in lines)
    assert any(line.startswith("| thin | - | - | 0 of 0 |") for line in lines)
    assert any(line.startswith("| **passed** | 1 of 3 | 0 of 0 | 1 of 3 |") for line in lines)
    assert "- ill, matrix: too-coarse: 2.7 mm" in lines
    assert "- out: not read: no: lungs" in lines
    assert robustness_section(None) == ""
