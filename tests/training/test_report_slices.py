"""The report on 8-bit slices: its measurements and its gallery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import RIGHT, SliceSet
from training.metrics import LesionCount
from training.report.gallery import FOUND, LARGEST_BYTES, TRUTH, Tile, box_of, worst, write_sheet
from training.report.slices import (
    CaseReading,
    Prediction,
    false_tiles,
    measure_mirror,
    measure_patients,
    measure_slices,
    worst_tiles,
)


def slices_of_two_patients() -> tuple[SliceSet, Prediction]:
    """Patient 0 (volumes 0) is marked as it is; of patient 1 half is marked, and a false one."""
    lungs = np.zeros((20, 64, 64), dtype=np.uint8)
    lungs[:, 4:60, 4:60] = RIGHT
    truth = np.zeros(lungs.shape, dtype=bool)
    truth[:, 10:30, 10:30] = True
    found = truth.copy()
    found[10:, 20:30] = False
    found[12, 45:50, 45:50] = True
    data = SliceSet(
        images=np.full(lungs.shape, 90, dtype=np.uint8),
        lungs=lungs,
        lesions=truth,
        volumes=np.repeat([0, 1], 10),
        names=("0", "1"),
    )
    return data, Prediction(lung=lungs > 0, lesion=found)


def test_slices_are_measured_by_patient() -> None:
    data, found = slices_of_two_patients()
    slices = measure_slices(found, data)
    right, half = measure_patients(found, data, slices)
    assert (right.patient, right.lesion.dice, right.involved_percent) == (
        0,
        1.0,
        right.true_involved_percent,
    )
    assert right.lesion_distances is not None
    assert right.lesion_distances.most == 0
    assert half.lesions == LesionCount(true=10, hit=10, marked=11, false=1)
    assert half.lesion.sensitivity == 0.5
    assert half.lesion.precision == pytest.approx(2000 / 2025)
    assert half.lesion_distances is not None
    assert half.lesion_distances.most == 10
    assert half.involved_percent == pytest.approx(100 * 2025 / (10 * 56 * 56))
    assert half.true_involved_percent == pytest.approx(100 * 400 / (56 * 56))
    assert slices[0].area_error == 0
    assert slices[11].area_error == pytest.approx(-100 * 200 / (56 * 56))


def test_a_slice_with_only_one_mask_is_counted_as_such() -> None:
    data, found = slices_of_two_patients()
    lesion = found.lesion.copy()
    lesion[3] = False
    found = Prediction(lung=found.lung, lesion=lesion)
    (first, _) = measure_patients(found, data, measure_slices(found, data))
    assert first.unmatched == 1
    assert first.lesion_distances is not None
    assert first.lesion_distances.average == 0


def test_both_ways_of_reading_are_compared_by_patient() -> None:
    data, found = slices_of_two_patients()
    lungs = {way: CaseReading(mask=found.lung, seconds=1.0 + way) for way in (False, True)}
    lesions = {
        False: CaseReading(mask=found.lesion, seconds=2.0),
        True: CaseReading(mask=data.lesions | ~found.lung, seconds=4.0),
    }
    records = measure_mirror(lungs, lesions, data)
    assert [(one.mirrored, one.patient) for one in records] == [
        (False, 0),
        (False, 1),
        (True, 0),
        (True, 1),
    ]
    once, twice = records[1], records[3]
    assert once.lesion_dice == pytest.approx(2 * 2000 / (2025 + 4000))
    assert twice.lesion_dice == 1.0
    assert (once.seconds, twice.seconds) == (3.0, 6.0)


def test_the_gallery_shows_the_worst_slices_and_no_neighbours() -> None:
    data, found = slices_of_two_patients()
    slices = measure_slices(found, data)
    shown = worst(worst_tiles(found, data, slices), 8, 2)
    assert [one.group for one in shown] == ["patient 1", "patient 1", "patient 0", "patient 0"]
    assert shown[0].place == 12
    assert abs(shown[0].place - shown[1].place) >= 5
    (false,) = false_tiles(found, data, slices)
    assert false.caption == ("patient 1", "slice 13: 25 pixels false")


def tile(**changed: object) -> Tile:
    mask = np.zeros((60, 60), dtype=bool)
    mask[20:40, 20:40] = True
    base = Tile(
        image=np.random.default_rng(1).integers(0, 255, (60, 60)).astype(np.uint8),
        found=mask,
        truth=np.roll(mask, 8, axis=1),
        lungs=None,
        caption=("a", "b"),
        group="a",
        place=0,
        badness=0.0,
    )
    return replace(base, **changed)


def test_outlines_keep_their_colours_in_small_pictures(tmp_path: Path) -> None:
    """Noise all over ten tiles leaves few greys, but both outlines stay what the legend says."""
    path = tmp_path / "sheet.png"
    noise = np.random.default_rng(2).integers(0, 255, (512, 512)).astype(np.uint8)
    wide = np.zeros(noise.shape, dtype=bool)
    wide[100:300, 100:300] = True
    write_sheet(path, [tile(image=noise, found=wide, truth=wide[::-1])] * 10)
    assert path.stat().st_size < LARGEST_BYTES
    colours = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    for colour in (FOUND, TRUTH):
        assert (colours == colour).all(axis=1).sum() > 10 * 200


def test_without_truth_there_is_no_truth_in_the_picture(tmp_path: Path) -> None:
    write_sheet(tmp_path / "sheet.png", [tile(truth=None)])
    colours = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).reshape(-1, 3)
    assert not (colours == TRUTH).all(axis=1).any()
    with pytest.raises(ValueError, match="no tiles"):
        write_sheet(tmp_path / "none.png", [])


def test_the_box_is_square_and_holds_every_mask() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[50:58, 2:42] = True
    rows, columns = box_of(mask, mask)
    assert rows.stop - rows.start == columns.stop - columns.start
    assert mask[rows, columns].sum() == mask.sum()
    assert box_of(np.zeros_like(mask)) == (slice(None), slice(None))
