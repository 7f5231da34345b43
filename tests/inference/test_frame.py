"""The frame shows the same patient in the same voxels, however the scan was made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from storage_ways import WAYS, Way, stored

from chestct.errors import GeometryError
from chestct.geometry import Geometry
from chestct.orientation import canonical
from chestct.volume import Volume
from inference.loading.pixels import AIR_HU
from inference.reading.frame import PIXEL_MM, Frame
from phantom import Thorax
from phantom.volume import canonical_volume


@pytest.fixture(scope="module")
def chest(small_thorax: Thorax) -> Volume:
    volume = small_thorax.volume()
    return canonical_volume(volume.hu[18:42], volume.geometry.spacing, volume.geometry.origin)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_frame_is_the_same_whatever_way_the_patient_is_stored(chest: Volume, way: Way) -> None:
    usual, frame = Frame.of(chest), Frame.of(canonical(stored(chest, way)))
    np.testing.assert_array_equal(frame.volume.hu, usual.volume.hu)
    np.testing.assert_array_equal(frame.body, usual.body)
    np.testing.assert_allclose(
        frame.volume.geometry.affine, usual.volume.geometry.affine, atol=1e-6
    )


def test_a_volume_in_another_orientation_is_refused(chest: Volume) -> None:
    for way in WAYS[1:]:
        with pytest.raises(GeometryError, match="canonical"):
            Frame.of(stored(chest, way))


@pytest.mark.parametrize("slices", [1, 3, 4])
def test_a_mask_comes_back_where_it_was(chest: Volume, slices: int) -> None:
    """A sphere stays where it is in the patient, also in slabs of several slices."""
    volume = _thinner(chest, slices)
    frame = Frame.of(volume)
    assert frame.slab == max(1, round(3 / volume.geometry.slice_spacing))
    centre = volume.geometry.to_patient(np.array([[n / 2 for n in volume.geometry.shape]]))[0]
    inside, own = _ball(frame.volume.geometry, centre), _ball(volume.geometry, centre)
    back = frame.restore(inside)
    assert 2 * (back & own).sum() / (back.sum() + own.sum()) > 0.97
    assert back.sum() == pytest.approx(own.sum(), rel=0.03)


def _thinner(volume: Volume, times: int) -> Volume:
    """Return the volume with every slice repeated, ``times`` thinner."""
    geometry = volume.geometry
    return canonical_volume(
        np.repeat(volume.hu, times, axis=0),
        (geometry.slice_spacing / times, *geometry.pixel_spacing),
        geometry.origin,
    )


def _ball(geometry: Geometry, centre: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a ball of 40 mm; the axes of the grid are those of the patient."""
    squares = []
    for axis, count in enumerate(geometry.shape):
        line = np.zeros((count, 3))
        line[:, axis] = np.arange(count)
        squares.append((geometry.to_patient(line)[:, 2 - axis] - centre[2 - axis]) ** 2)
    away = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    ball: NDArray[np.bool_] = away < 40**2
    return ball


def test_the_frame_shows_the_body_alone_in_pixels_of_one_size(chest: Volume) -> None:
    frame = Frame.of(chest)
    assert frame.volume.geometry.pixel_spacing == pytest.approx((PIXEL_MM, PIXEL_MM), rel=0.01)
    assert (frame.volume.hu[~frame.body] == AIR_HU).all()
    assert frame.volume.hu[frame.body].mean() > -600
    rim = np.concatenate([frame.body[:, :2].ravel(), frame.body[:, :, :2].ravel()])
    assert not rim.any()


@pytest.mark.parametrize("margin", [20, 90])
def test_more_room_around_the_patient_changes_nothing(chest: Volume, margin: int) -> None:
    geometry = chest.geometry
    wide = np.full([geometry.shape[0], *(n + 2 * margin for n in geometry.shape[1:])], -1000)
    wide[:, margin:-margin, margin:-margin] = chest.hu
    origin = geometry.to_patient(np.array([[0.0, -margin, -margin]]))[0]
    volume = canonical_volume(wide.astype(np.int16), geometry.spacing, tuple(origin))
    usual, frame = Frame.of(chest), Frame.of(volume)
    assert abs(np.subtract(frame.body.shape, usual.body.shape)).max() <= 64
    assert frame.body.sum() == pytest.approx(usual.body.sum(), rel=0.01)
    lungs = frame.body & (frame.volume.hu < -500)
    usual_lungs = usual.body & (usual.volume.hu < -500)
    assert lungs.sum() == pytest.approx(usual_lungs.sum(), rel=0.01)


def test_a_pixel_at_the_rim_of_the_body_does_not_move_the_grid(chest: Volume) -> None:
    body = np.flatnonzero(Frame.of(chest).body.any(axis=(0, 1)))
    hu = chest.hu.copy()
    at = round((body[0] + Frame.of(chest).corner[1] - 2) * PIXEL_MM / chest.geometry.spacing[2])
    hu[:, 100:112, at - 4 : at + 20] = 40
    wider = Frame.of(canonical_volume(hu, chest.geometry.spacing, chest.geometry.origin))
    assert wider.body.sum() > Frame.of(chest).body.sum()
    assert (wider.corner, wider.body.shape) == (Frame.of(chest).corner, Frame.of(chest).body.shape)


def test_a_plane_enters_and_leaves_unchanged_but_for_its_resolution(chest: Volume) -> None:
    frame = Frame.of(chest)
    rows, columns = np.indices(chest.geometry.shape[1:], dtype=np.float32)
    ramp = rows + 2 * columns
    back = frame.leave(frame.enter(ramp))
    inner = frame.restore(np.pad(frame.body[:, 4:-4, 4:-4], ((0, 0), (4, 4), (4, 4))))
    for index in (2, 12):
        assert np.abs(back - ramp)[inner[index]].max() < 2


def test_a_volume_without_a_body_is_air() -> None:
    empty = canonical_volume(np.full((4, 30, 30), -1000, np.int16), (5, 2, 2), (0, 0, 0))
    frame = Frame.of(empty)
    assert not frame.body.any()
    assert (frame.volume.hu == AIR_HU).all()
    assert not frame.restore(frame.body).any()


@given(
    low=st.tuples(*[st.integers(0, 20)] * 3),
    size=st.tuples(*[st.integers(1, 20)] * 3),
)
def test_a_box_in_the_source_holds_the_box_of_the_frame(
    low: tuple[int, ...], size: tuple[int, ...]
) -> None:
    hu = np.full((30, 90, 100), 40, np.int16)
    hu[:, :10], hu[:, :, :10] = -1000, -1000
    volume = canonical_volume(hu, (2.0, 1.1, 0.9), (-40.0, -50.0, 10.0))
    frame = Frame.of(volume)
    shape = frame.volume.geometry.shape
    first = [min(at, n - 1) for at, n in zip(low, shape, strict=True)]
    last = [min(at + n, most) for at, n, most in zip(first, size, shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    mask = np.zeros(shape, bool)
    mask[box] = True
    source = frame.box_in_source((box[0], box[1], box[2]))
    outside = frame.restore(mask)
    outside[source] = False
    assert not outside.any()
    assert volume.hu[source].size
