"""A white, collapsed or missing lung is "not assessable"; the other lung gets its result."""

from __future__ import annotations

import numpy as np
import pytest
from hu_models import LesionsKnown, LungsByHu, LungsKnown, models
from numpy.typing import NDArray
from scipy import ndimage

from chestct.errors import RejectReason, SeriesRejected
from chestct.findings import Coverage, Extent, LungMeasurement, NotAssessable, Outcome, Side
from chestct.geometry import Geometry
from chestct.method import Method
from chestct.verdict import verdict
from chestct.volume import LEFT_LABELS, RIGHT_LABELS, Label, Volume
from inference.reading.analysis import Analysis, analyse
from inference.reading.plausibility import find_higher_base
from inference.reading.sides import drop_strays, find_missing, halves_of
from phantom import Thorax
from phantom.volume import canonical_volume

pytestmark = pytest.mark.slow

SIDES = ("left", "right")
GEOMETRY = Geometry(
    shape=(10, 40, 60),
    origin=(0.0, 0.0, 0.0),
    row_cosines=(1.0, 0.0, 0.0),
    column_cosines=(0.0, 1.0, 0.0),
    pixel_spacing=(5.0, 5.0),
    slice_spacing=5.0,
)


def lung_of(thorax: Thorax, side: str) -> NDArray[np.bool_]:
    return thorax.left_lung if side == "left" else thorax.right_lung


def other_than(side: str) -> str:
    return "right" if side == "left" else "left"


def whitened(thorax: Thorax, side: str) -> NDArray[np.int16]:
    """Return the phantom with the air of one half of the body at 40 HU, as make_cases.py has it."""
    hu = thorax.hu.copy()
    left = np.arange(hu.shape[2])[None, :] > hu.shape[2] / 2
    for plane in hu:
        parts, _ = ndimage.label(ndimage.binary_opening(plane > -300, iterations=3))
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        body = ndimage.binary_fill_holes(parts == sizes.argmax())
        plane[(plane < -300) & body & (left if side == "left" else ~left)] = 40
    return hu


def read(
    thorax: Thorax,
    hu: NDArray[np.int16],
    lungs: LungsByHu | None = None,
    lesion: NDArray[np.bool_] | None = None,
) -> tuple[Volume, Analysis]:
    volume = canonical_volume(hu, thorax.spacing, thorax.origin)
    lesion = thorax.lesion > 0 if lesion is None else lesion
    found = analyse(
        volume,
        models(lungs or LungsByHu(), LesionsKnown(lesion=lesion)),
        Method(),
        lambda _stage, _part: None,
    )
    return volume, found


def side_of(analysis: Analysis, side: str) -> LungMeasurement | NotAssessable:
    return analysis.findings.left if side == "left" else analysis.findings.right


def labels_of(side: str) -> tuple[Label, ...]:
    return LEFT_LABELS if side == "left" else RIGHT_LABELS


@pytest.mark.parametrize("side", SIDES)
def test_a_white_lung_has_no_number_and_the_other_has_those_it_had(
    small_thorax: Thorax, side: str
) -> None:
    hu = whitened(small_thorax, side)
    for lungs in (
        LungsByHu(),
        LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung),
    ):
        _, whole = read(small_thorax, small_thorax.hu, lungs)
        _, found = read(small_thorax, hu, lungs)
        findings = found.findings
        missing, other = side_of(found, side), side_of(found, other_than(side))
        assert isinstance(missing, NotAssessable)
        assert missing.aerated_ml < 10 < missing.needed_ml
        assert isinstance(other, LungMeasurement)
        before = side_of(whole, other_than(side))
        assert isinstance(before, LungMeasurement)
        assert other.volume_ml == pytest.approx(before.volume_ml, rel=0.03)
        assert findings.total is None
        assert findings.extent is None
        assert findings.covers is Coverage(other_than(side))
        assert not np.isin(found.lesion_map.labels, labels_of(side)).any()
        assert {str(lesion.side) for lesion in findings.lesions} <= {other_than(side)}
        assert f"{side} lung not assessable" in verdict(findings)
        (flag,) = [one for one in findings.quality_flags if "not assessable" in one]
        assert flag.startswith(f"the {side} lung is not assessable")
        assert not any("small or missing" in one for one in findings.quality_flags)


@pytest.mark.parametrize("side", SIDES)
def test_a_white_lung_beside_a_healthy_one_never_reads_as_no_lesion(
    healthy_thorax: Thorax, side: str
) -> None:
    _, found = read(healthy_thorax, whitened(healthy_thorax, side))
    # The model takes the stomach for lung, which reaches the feet end of the phantom.
    assert verdict(found.findings).startswith(f"indeterminate: {side} lung not assessable")


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_marked_in_the_white_half_even_where_the_network_marks_it(
    small_thorax: Thorax, side: str
) -> None:
    hu = whitened(small_thorax, side)
    everything = np.ones_like(small_thorax.left_lung)
    volume, found = read(small_thorax, hu, lesion=everything)
    x = volume.geometry.to_patient(np.argwhere(found.lesion_map.lesion()))[:, 0]
    assert x.size
    across = x > 20 if side == "left" else x < -20
    assert not across.any()
    assert not np.isin(found.lesion_map.labels, labels_of(side)).any()


@pytest.mark.parametrize("side", SIDES)
def test_a_fifth_of_a_lung_does_not_speak_for_it(small_thorax: Thorax, side: str) -> None:
    """Its percent would be of the rest, of which nobody knows whether it is lung."""
    lung = lung_of(small_thorax, side)
    hu = small_thorax.hu.copy()
    filled = np.cumsum(lung.sum(axis=(1, 2))) < 0.8 * lung.sum()
    hu[lung & filled[:, None, None]] = 40
    _, found = read(small_thorax, hu)
    missing = side_of(found, side)
    assert isinstance(missing, NotAssessable)
    assert missing.aerated_ml > 100
    assert found.findings.extent is None


@pytest.mark.parametrize("side", SIDES)
def test_two_fifths_of_a_lung_as_after_a_lobectomy_are_assessed(
    small_thorax: Thorax, side: str
) -> None:
    lung = lung_of(small_thorax, side)
    hu = small_thorax.hu.copy()
    filled = np.cumsum(lung.sum(axis=(1, 2))) < 0.55 * lung.sum()
    hu[lung & filled[:, None, None]] = 40
    _, found = read(small_thorax, hu)
    assert found.findings.covers is Coverage.BOTH
    assert found.findings.extent is not None


@pytest.mark.parametrize("side", SIDES)
def test_after_a_pneumonectomy_the_other_lung_gets_its_result(
    small_thorax: Thorax, side: str
) -> None:
    """The mediastinum lies in the empty half: the body's midline is not that of the lungs."""
    gone = lung_of(small_thorax, side)
    hu = small_thorax.hu.copy()
    hu[gone] = 40
    shift = round(15 / small_thorax.spacing[2]) * (1 if side == "left" else -1)
    inside = ndimage.binary_erosion(
        ndimage.binary_fill_holes(small_thorax.hu > -300, np.ones((1, 3, 3))),
        np.ones((1, 13, 13)),
    )
    other_lung = lung_of(small_thorax, other_than(side))
    moved, kept = (np.roll(one, shift, axis=2) for one in (hu, other_lung))
    shifted = np.where(inside & np.roll(inside, shift, axis=2), moved, small_thorax.hu)
    shifted[~inside & gone] = 40
    truth = kept & inside & np.roll(inside, shift, axis=2)
    known = {side: np.zeros_like(gone), other_than(side): truth}
    _, found = read(small_thorax, shifted.astype(np.int16), LungsKnown(**known))
    other = side_of(found, other_than(side))
    assert isinstance(other, LungMeasurement)
    assert other.volume_ml == pytest.approx(small_thorax.volume_ml(truth), rel=0.05)
    assert isinstance(side_of(found, side), NotAssessable)


def test_two_white_lungs_are_refused(small_thorax: Thorax) -> None:
    hu = small_thorax.hu.copy()
    hu[small_thorax.left_lung | small_thorax.right_lung] = 40
    lungs = LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung)
    with pytest.raises(SeriesRejected) as caught:
        read(small_thorax, hu, lungs)
    assert caught.value.reason in {RejectReason.LUNG_NOT_ASSESSABLE, RejectReason.NO_LUNGS}


def test_neither_lung_with_air_enough_says_of_both_how_much(small_thorax: Thorax) -> None:
    labels = np.zeros(small_thorax.hu.shape, np.uint8)
    labels[small_thorax.left_lung], labels[small_thorax.right_lung] = 1, 2
    white = canonical_volume(
        np.full_like(small_thorax.hu, 40), small_thorax.spacing, small_thorax.origin
    )
    with pytest.raises(SeriesRejected, match="neither lung is assessable: 0 ml of the left") as no:
        find_missing(labels, white)
    assert no.value.reason is RejectReason.LUNG_NOT_ASSESSABLE


@pytest.mark.parametrize("diseased", [("left",), ("right",), SIDES], ids="-".join)
def test_a_lung_that_is_hazy_as_a_whole_is_never_clear(
    healthy_thorax: Thorax, diseased: tuple[str, ...]
) -> None:
    """A network that compares lung with lung does not see ground-glass that spares nothing."""
    hu = healthy_thorax.hu.copy()
    for side in diseased:
        lung = lung_of(healthy_thorax, side)
        hu[lung] = np.maximum(hu[lung], -490)
    lungs = LungsKnown(left=healthy_thorax.left_lung, right=healthy_thorax.right_lung)
    with pytest.raises(SeriesRejected, match=f"the {diseased[0]} lung is not .* -490 HU") as caught:
        read(healthy_thorax, hu, lungs)
    assert caught.value.reason is RejectReason.LUNG_NOT_ASSESSABLE


def test_a_lung_that_is_hazy_as_a_whole_and_marked_gets_its_result(small_thorax: Thorax) -> None:
    lung = small_thorax.left_lung | small_thorax.right_lung
    hu = np.where(lung, np.maximum(small_thorax.hu, -490), small_thorax.hu).astype(np.int16)
    lungs = LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung)
    _, found = read(small_thorax, hu, lungs, lesion=lung)
    assert found.findings.presence.positive


@pytest.mark.parametrize("side", SIDES)
def test_a_base_that_the_networks_take_for_abdomen_leaves_no_negative_result(
    healthy_thorax: Thorax, side: str
) -> None:
    """A consolidated base: neither network marks any of it."""
    hu = healthy_thorax.hu.copy()
    base = lung_of(healthy_thorax, side).copy()
    lowest = int(np.flatnonzero(base.any(axis=(1, 2)))[0])
    base[lowest + round(60 / healthy_thorax.spacing[0]) :] = False
    hu[base] = 30
    lungs = LungsKnown(
        left=healthy_thorax.left_lung & ~base, right=healthy_thorax.right_lung & ~base
    )
    _, found = read(healthy_thorax, hu, lungs)
    assert not found.findings.presence.positive
    assert found.findings.higher_base == side
    assert found.findings.outcome is Outcome.INDETERMINATE
    assert any(flag.startswith(f"the {side} lung ends ") for flag in found.findings.quality_flags)


@pytest.mark.parametrize(("gap_mm", "higher"), [(25, None), (35, (Side.LEFT, 35.0))])
def test_bases_may_differ_as_much_as_a_diaphragm_does(
    gap_mm: int, higher: tuple[Side, float] | None
) -> None:
    volume = canonical_volume(np.zeros((40, 20, 40), np.int16), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    sides = np.zeros(volume.hu.shape, np.uint8)
    sides[3:, 5:15, 5:15] = Label.RIGHT_LUNG
    sides[3 + gap_mm // 5 :, 5:15, 25:35] = Label.LEFT_LUNG
    sides[0, 0, 0] = Label.LEFT_LUNG  # too little to be the end of a lung
    assert find_higher_base(sides, volume) == higher


def test_a_shallow_breath_may_be_clear(healthy_thorax: Thorax) -> None:
    lung = healthy_thorax.left_lung | healthy_thorax.right_lung
    hu = np.where(lung, np.maximum(healthy_thorax.hu, -600), healthy_thorax.hu).astype(np.int16)
    lungs = LungsKnown(left=healthy_thorax.left_lung, right=healthy_thorax.right_lung)
    _, found = read(healthy_thorax, hu, lungs)
    assert not found.findings.presence.positive


@pytest.mark.parametrize("off", [0, 9])
def test_what_lies_on_the_other_side_of_the_patient_is_called_by_that_side(off: int) -> None:
    """The middle is that of the body, wherever it lies in the image."""
    body = np.zeros(GEOMETRY.shape, bool)
    body[:, 5:35, 5 + off : 45 + off] = True
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[:, 10:30, 8 + off : 20 + off] = Label.RIGHT_LUNG
    labels[:, 10:30, 30 + off : 42 + off] = Label.LEFT_LUNG
    labels[2:5, 15:18, 10 + off : 13 + off] = Label.LEFT_LUNG
    before = labels.copy()
    drop_strays(labels, halves_of(body, GEOMETRY), GEOMETRY.voxel_ml)
    stray = ndimage.label(before == Label.LEFT_LUNG)[0]
    small = min((1, 2), key=lambda one: int((stray == one).sum()))
    assert (labels[stray == small] == Label.RIGHT_LUNG).all()
    np.testing.assert_array_equal(labels[stray != small], before[stray != small])


def test_islands_go_and_small_lungs_stay() -> None:
    body = np.ones(GEOMETRY.shape, bool)
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:8, 10:30, 5:20] = Label.RIGHT_LUNG
    labels[4, 10:12, 50:53] = Label.LEFT_LUNG  # 0.75 ml
    labels[6:8, 10:13, 50:53] = Label.LEFT_LUNG  # 2.25 ml
    drop_strays(labels, halves_of(body, GEOMETRY), GEOMETRY.voxel_ml)
    assert (labels == Label.LEFT_LUNG).sum() == 18
    assert not labels[4, :, 40:].any()


def test_the_extent_is_of_both_lungs_or_of_none(small_thorax: Thorax) -> None:
    _, whole = read(small_thorax, small_thorax.hu)
    assert whole.findings.extent in set(Extent)
    assert whole.findings.total is not None
