"""What a radiologist would miss, or find where it must not be."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from phantom import PhantomSpec, Thorax, make_thorax


def _outside(thorax: Thorax) -> NDArray[np.bool_]:
    """Return the room air: what is connected to the upper corner of its slice."""
    outside = np.zeros(thorax.hu.shape, dtype=bool)
    for index, plane in enumerate(thorax.hu):
        labels, _ = ndimage.label(plane < -700)
        assert labels[0, 0]
        outside[index] = labels == labels[0, 0]
    return outside


def test_the_room_in_front_of_the_patient_is_air(healthy_thorax: Thorax) -> None:
    assert (healthy_thorax.hu[:, :4] < -850).all()


def test_ribs_are_beside_the_lungs_and_leave_gaps_between_them(healthy_thorax: Thorax) -> None:
    thorax = healthy_thorax
    z = thorax.origin[2] + thorax.spacing[0] * np.arange(thorax.hu.shape[0])
    for lung in (thorax.left_lung, thorax.right_lung):
        wall = ndimage.binary_dilation(lung, iterations=6) & ~lung
        wall &= ~ndimage.binary_dilation(
            thorax.left_lung | thorax.right_lung, iterations=1, structure=np.ones((3, 1, 1))
        )
        columns = np.nonzero(lung)[2]
        outer = np.quantile(columns, 0.98 if lung is thorax.left_lung else 0.02)
        near = np.abs(np.arange(thorax.hu.shape[2]) - outer) < 10
        per_slice = [
            int(((plane > 250) & ring & near).sum())
            for plane, ring in zip(thorax.hu, wall, strict=True)
        ]
        inside = [count for count, height in zip(per_slice, z, strict=True) if -60 < height < 30]
        assert sum(count > 0 for count in inside) > len(inside) / 2
        assert (wall & near & (thorax.hu < 100)).sum() > (wall & near & (thorax.hu > 250)).sum()


def test_bone_stays_under_the_skin(healthy_thorax: Thorax) -> None:
    near_air = ndimage.binary_dilation(
        _outside(healthy_thorax), structure=np.ones((1, 3, 3)), iterations=1
    )
    assert not (near_air & (healthy_thorax.hu > 250)).any()


def test_vertebrae_are_whole(healthy_thorax: Thorax) -> None:
    """The front of a vertebral body is as dense as its back: no mediastinum painted over it."""
    thorax = healthy_thorax
    middle = round(-thorax.origin[0] / thorax.spacing[2])
    fronts = []
    for plane in thorax.hu[15:45]:
        line = plane[:, middle - 1 : middle + 2].mean(axis=1)
        dense = np.flatnonzero(line > 120)
        behind = dense[dense * thorax.spacing[1] + thorax.origin[1] > 20]
        fronts.append(behind.min() * thorax.spacing[1] + thorax.origin[1] if behind.size else 999)
    assert np.median(fronts) < 72


@pytest.mark.parametrize("seed", range(1, 9))
def test_both_lungs_are_whole_in_every_patient(seed: int) -> None:
    thorax = make_thorax(
        PhantomSpec(shape=(100, 64, 64), pixel_spacing_mm=5.9, noise_hu=0.0, seed=seed)
    )
    lungs = thorax.left_lung | thorax.right_lung
    assert not lungs[[0, -1]].any()
    assert not lungs[:, :, [0, -1]].any()
    assert 2500 < thorax.volume_ml(lungs) < 6500
