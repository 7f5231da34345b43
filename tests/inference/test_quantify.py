"""Measurements against masks whose truth is known, and how they follow the grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chestct.findings import (
    NO_OPACITY,
    Extent,
    Findings,
    LungMeasurement,
    OpacityMeasurement,
    Side,
    Zone,
)
from chestct.findings_json import lung_from_dict, lung_to_dict, measurement_from_dict
from chestct.geometry import Geometry, Vector
from chestct.method import Method, Presence
from chestct.uids import derive_uid
from chestct.volume import Label, LesionMap, SliceSource, Volume
from inference.reading.quantify import extent_of, measure
from phantom import Thorax

PRESENT = Presence(score=0.9, operating_point=0.5)
METHOD = Method()
SPACING = (5.0, 1.5, 0.75)


def findings_of(
    labels: NDArray[np.uint8],
    hu: NDArray[np.int16] | None = None,
    *,
    spacing: Vector = SPACING,
    origin: Vector = (-10.0, 20.0, -300.0),
    cosines: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    **changes: Any,
) -> Findings:
    geometry = Geometry(
        shape=labels.shape,
        origin=origin,
        row_cosines=cosines[0],
        column_cosines=cosines[1],
        pixel_spacing=spacing[1:],
        slice_spacing=spacing[0],
    )
    source = SliceSource(sop_class_uid=derive_uid("c"), sop_instance_uid=derive_uid("i"))
    volume = Volume(
        hu=np.full(labels.shape, -700, np.int16) if hu is None else hu.copy(),
        geometry=geometry,
        sources=(source,) * labels.shape[0],
        series_uid=derive_uid("s"),
        frame_of_reference_uid=derive_uid("f"),
    )
    lesion_map = LesionMap(labels=labels.copy(), geometry=geometry)
    return measure(volume, lesion_map, PRESENT, changes.get("method", METHOD))


def chest() -> NDArray[np.uint8]:
    labels = np.zeros((8, 40, 60), np.uint8)
    labels[1:7, 5:35, 5:25] = Label.RIGHT_LUNG
    labels[1:7, 5:35, 35:55] = Label.LEFT_LUNG
    return labels


@pytest.mark.parametrize("upwards", [True, False])
def test_the_zones_of_a_lung_run_from_apex_to_base(upwards: bool) -> None:  # noqa: FBT001
    """A lesion in the lowest third of the left lung, whichever way the slices run."""
    labels = chest()
    labels[1:3, 10:20, 40:50] = Label.LEFT_GROUND_GLASS
    columns: Vector = (0.0, 1.0, 0.0)
    if not upwards:
        labels, columns = labels[::-1, ::-1], (0.0, -1.0, 0.0)
    found = findings_of(labels, cosines=((1.0, 0.0, 0.0), columns))
    assert isinstance(found.left, LungMeasurement)
    assert isinstance(found.right, LungMeasurement)
    assert [zone.zone for zone in found.left.zones] == list(Zone)
    assert [zone.lesion_ml > 0 for zone in found.left.zones[:3]] == [False, False, True]
    for lung in (found.left, found.right):
        for zones in (lung.zones[:3], lung.zones[3:]):
            assert sum(zone.volume_ml for zone in zones) == pytest.approx(lung.volume_ml)
            assert sum(zone.lesion_ml for zone in zones) == pytest.approx(lung.lesion_ml)
    lower = found.left.zones[2]
    assert lower.involved_percent == pytest.approx(100 * lower.lesion_ml / lower.volume_ml)
    assert found.total is not None
    assert found.total.zones == ()
    assert lung_from_dict(lung_to_dict(found.left)) == found.left


def test_the_phantom_is_measured_as_it_was_made(small_thorax: Thorax) -> None:
    thorax = small_thorax
    labels = np.zeros(thorax.hu.shape, np.uint8)
    labels[thorax.left_lung], labels[thorax.right_lung] = Label.LEFT_LUNG, Label.RIGHT_LUNG
    ill = thorax.lesion > 0
    labels[ill & thorax.left_lung] = Label.LEFT_CONSOLIDATION
    labels[ill & thorax.right_lung] = Label.RIGHT_GROUND_GLASS
    found = findings_of(labels, thorax.hu, spacing=thorax.spacing, origin=thorax.origin)
    for side, lung in (("left", thorax.left_lung), ("right", thorax.right_lung)):
        measured = getattr(found, side)
        assert measured.volume_ml == pytest.approx(thorax.volume_ml(lung))
        assert measured.lesion_ml == pytest.approx(thorax.volume_ml(lung & ill))
    both = thorax.left_lung | thorax.right_lung
    assert found.total.involved_percent == pytest.approx(100 * (both & ill).sum() / both.sum())
    glass = next(lesion for lesion in found.lesions if lesion.side is Side.RIGHT)
    dense = next(lesion for lesion in found.lesions if lesion.side is Side.LEFT)
    assert (glass.high_opacity_percent, dense.high_opacity_percent) == (0, 100)
    assert glass.mean_hu < METHOD.high_opacity_hu < dense.mean_hu


def test_a_box_has_its_volume_place_and_diagonal() -> None:
    labels = chest()
    labels[2:4, 10:14, 36:44] = Label.LEFT_GROUND_GLASS
    found = findings_of(labels)
    (lesion,) = found.lesions
    assert lesion.volume_ml == pytest.approx(2 * 4 * 8 * 5 * 1.5 * 0.75 / 1000)
    assert lesion.centroid == pytest.approx((-10 + 39.5 * 0.75, 20 + 11.5 * 1.5, -300 + 2.5 * 5))
    assert lesion.diameter.long_axis_mm == pytest.approx(np.hypot(3 * 1.5, 7 * 0.75))
    assert lesion.side is Side.LEFT
    assert found.left.involved_percent == pytest.approx(100 * 64 / (6 * 30 * 20))
    assert found.right.lesion_ml == 0
    assert found.right.lesion_mean_hu is None


def test_the_diameter_is_that_of_the_widest_slice_and_lies_in_the_lesion() -> None:
    labels = chest()
    labels[2, 10, 36:39] = Label.LEFT_GROUND_GLASS
    labels[3, 10:12, 36:47] = Label.LEFT_GROUND_GLASS
    diameter = findings_of(labels).lesions[0].diameter
    assert diameter.slice_index == 3
    for row, column in diameter.long_axis:
        assert labels[3, round(row), round(column)] == Label.LEFT_GROUND_GLASS


def test_an_ellipse_has_its_axes() -> None:
    rows, columns = np.mgrid[:200, :300]
    labels = np.zeros((3, 200, 300), np.uint8)
    turned = np.deg2rad(30)
    y, x = (rows - 100) * 0.5, (columns - 150) * 0.8
    along, across = x * np.cos(turned) + y * np.sin(turned), y * np.cos(turned) - x * np.sin(turned)
    labels[1][(along / 40) ** 2 + (across / 15) ** 2 <= 1] = Label.RIGHT_GROUND_GLASS
    diameter = findings_of(labels, spacing=(3.0, 0.5, 0.8)).lesions[0].diameter
    assert diameter.long_axis_mm == pytest.approx(80, abs=1)
    assert diameter.short_axis_mm == pytest.approx(30, abs=1)


def test_a_single_voxel_is_as_long_as_a_pixel() -> None:
    labels = chest()
    labels[2, 10, 40] = Label.LEFT_GROUND_GLASS
    diameter = findings_of(labels).lesions[0].diameter
    assert (diameter.long_axis_mm, diameter.short_axis_mm) == (0.75, 0.75)


def test_opacity_across_the_midline_is_a_lesion_in_each_lung() -> None:
    labels = np.zeros((3, 20, 40), np.uint8)
    labels[1, 5:15, 5:20], labels[1, 5:15, 20:35] = Label.RIGHT_LUNG, Label.LEFT_LUNG
    labels[1, 8:10, 10:20] = Label.RIGHT_GROUND_GLASS
    labels[1, 8:10, 20:24] = Label.LEFT_CONSOLIDATION
    found = findings_of(labels)
    assert [lesion.side for lesion in found.lesions] == [Side.RIGHT, Side.LEFT]
    assert [lesion.high_opacity_percent for lesion in found.lesions] == [0, 100]
    for lesion, lung in zip(found.lesions, (found.right, found.left), strict=True):
        assert lesion.volume_ml == pytest.approx(lung.lesion_ml)
    assert found.lesions[0].diameter.long_axis_mm == pytest.approx(np.hypot(1.5, 9 * 0.75))


def test_of_equal_lesions_the_lowest_comes_first() -> None:
    labels = chest()
    labels[5, 10, 10:12] = labels[2, 20, 10:12] = Label.RIGHT_GROUND_GLASS
    labels[2, 10, 40:42] = Label.LEFT_GROUND_GLASS
    places = [lesion.diameter for lesion in findings_of(labels).lesions]
    assert [(place.slice_index, place.long_axis[0][0]) for place in places] == [
        (2, 10),
        (2, 20),
        (5, 10),
    ]


def test_lesions_are_numbered_by_volume() -> None:
    labels = chest()
    labels[2, 10:12, 40:42] = Label.LEFT_GROUND_GLASS
    labels[2, 20:25, 10:20] = Label.RIGHT_GROUND_GLASS
    labels[5, 30, 10] = Label.RIGHT_GROUND_GLASS
    found = findings_of(labels)
    assert [lesion.number for lesion in found.lesions] == [1, 2, 3]
    volumes = [lesion.volume_ml for lesion in found.lesions]
    assert volumes == sorted(volumes, reverse=True)
    assert sum(volumes) == pytest.approx(found.total.lesion_ml)


def test_each_lung_states_its_two_kinds_of_opacity() -> None:
    labels, hu = chest(), np.full((8, 40, 60), -600, np.int16)
    labels[2, 10, 36:46] = Label.LEFT_GROUND_GLASS
    labels[2, 10, 36:39] = Label.LEFT_CONSOLIDATION
    hu[2, 10, 36:39] = -100
    hu[4] = 50  # dense, but no lesion
    found = findings_of(labels, hu)
    ml = math.prod(SPACING) / 1000
    for measured in (found.total, found.left):
        assert measured.high_opacity_percent == pytest.approx(30)
        assert measured.lesion_mean_hu == pytest.approx(-450)
        assert measured.ground_glass == OpacityMeasurement(volume_ml=7 * ml, mean_hu=-600)
        assert measured.consolidation == OpacityMeasurement(volume_ml=3 * ml, mean_hu=-100)
    assert (found.right.ground_glass, found.right.consolidation) == (NO_OPACITY, NO_OPACITY)
    assert found.ground_glass == found.total.ground_glass
    assert lung_from_dict(lung_to_dict(found.left)) == found.left


def test_the_kinds_of_an_earlier_result_follow_from_their_share() -> None:
    stored = {
        "volume_ml": 2000.0,
        "lesion_ml": 100.0,
        "involved_percent": 5.0,
        "high_opacity_percent": 25.0,
        "lesion_mean_hu": -400.0,
    }
    lung = measurement_from_dict(stored)
    assert (lung.ground_glass.volume_ml, lung.consolidation.volume_ml) == (75.0, 25.0)


def test_without_lungs_or_lesions_nothing_is_divided_by_zero() -> None:
    found = findings_of(np.zeros((3, 4, 5), np.uint8))
    assert (found.total.volume_ml, found.total.involved_percent, found.lesions) == (0, 0, ())
    assert found.extent is Extent.NONE


@pytest.mark.parametrize(
    ("percent", "extent"),
    [
        (0, Extent.NONE),
        (0.001, Extent.MILD),
        (4.999, Extent.MILD),
        (5, Extent.MODERATE),
        (24.999, Extent.MODERATE),
        (25, Extent.SEVERE),
        (100, Extent.SEVERE),
    ],
)
def test_the_extent_changes_at_its_limits(percent: float, extent: Extent) -> None:
    assert extent_of(percent, METHOD) is extent


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Draw two lungs with up to four boxes of lesion in them."""
    labels = chest()
    for _ in range(draw(st.integers(1, 4))):
        start = [draw(st.integers(0, size - 1)) for size in labels.shape]
        box = tuple(slice(at, at + draw(st.integers(1, 9))) for at in start)
        lungs = labels[box]
        lungs[lungs == Label.LEFT_LUNG] = Label.LEFT_GROUND_GLASS
        lungs[lungs == Label.RIGHT_LUNG] = Label.RIGHT_GROUND_GLASS
    return labels


@settings(max_examples=15, deadline=None)
@given(label_maps(), st.floats(0.3, 4))
def test_measures_scale_with_the_voxels(labels: NDArray[np.uint8], factor: float) -> None:
    small = findings_of(labels)
    large = findings_of(
        labels,
        spacing=(SPACING[0] * factor, SPACING[1] * factor, SPACING[2] * factor),
        origin=(-10.0 * factor, 20.0 * factor, -300.0 * factor),
    )
    assert large.total.volume_ml == pytest.approx(small.total.volume_ml * factor**3)
    assert large.total.lesion_ml == pytest.approx(small.total.lesion_ml * factor**3)
    assert large.total.involved_percent == pytest.approx(small.total.involved_percent)
    for before, after in zip(small.lesions, large.lesions, strict=True):
        assert after.diameter.long_axis_mm == pytest.approx(before.diameter.long_axis_mm * factor)
        assert after.centroid == pytest.approx([x * factor for x in before.centroid])


@settings(max_examples=15, deadline=None)
@given(label_maps())
def test_a_volume_stored_the_other_way_round_says_the_same(labels: NDArray[np.uint8]) -> None:
    """Columns to the patient's right, slices to the feet: the same patient, the same findings."""
    plain = findings_of(labels)
    last = labels.shape[2] - 1, labels.shape[0] - 1
    turned = findings_of(
        labels[::-1, :, ::-1],
        origin=(-10.0 + last[0] * SPACING[2], 20.0, -300.0 + last[1] * SPACING[0]),
        cosines=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    )
    assert turned.left == plain.left
    assert turned.right == plain.right
    before, after = (
        np.array(sorted(np.round(one.centroid, 6).tolist() for one in found.lesions))
        for found in (plain, turned)
    )
    np.testing.assert_allclose(after, before)


@settings(max_examples=15, deadline=None)
@given(label_maps())
def test_both_lungs_are_the_sum_of_each(labels: NDArray[np.uint8]) -> None:
    found = findings_of(labels)
    assert found.total.volume_ml == pytest.approx(found.left.volume_ml + found.right.volume_ml)
    assert found.total.lesion_ml == pytest.approx(found.left.lesion_ml + found.right.lesion_ml)
    assert sum(one.volume_ml for one in found.lesions) == pytest.approx(found.total.lesion_ml)
    for lesion in found.lesions:
        assert lesion.diameter.short_axis_mm <= lesion.diameter.long_axis_mm + 1e-9
