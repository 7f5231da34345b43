"""Nothing outside the patient is lung, whatever surrounds the patient in the image."""

from __future__ import annotations

import numpy as np
import pytest
from hu_models import LungsByHu, LungsKnown, lungs_of
from numpy.typing import NDArray
from thin_chests import thin_walled

from chestct.errors import RejectReason, SeriesRejected
from chestct.volume import Volume
from inference.loading.fill import fill_as_air
from inference.reading.body import body_of
from phantom import Thorax
from phantom.volume import canonical_volume

pytestmark = pytest.mark.slow


class Everything(LungsByHu):
    """A network that marks everything dark as lung, also room air."""

    def probabilities(self, volume: Volume, slices: list[int]) -> NDArray[np.float32]:  # type: ignore[override]
        """Return lung wherever there is air; the column decides the side."""
        air = volume.hu[slices] < -300
        left = np.arange(volume.hu.shape[2]) > volume.hu.shape[2] / 2
        return np.stack([~air, air & ~left, air & left], axis=1).astype(np.float32)


def volume_of(thorax: Thorax, hu: NDArray[np.int16]) -> Volume:
    return canonical_volume(hu, thorax.spacing, thorax.origin)


def outside_circle(shape: tuple[int, ...], scale: float = 1.0) -> NDArray[np.bool_]:
    y, x = np.mgrid[: shape[1], : shape[2]]
    middle = (shape[1] - 1) / 2, (shape[2] - 1) / 2
    return np.hypot(y - middle[0], x - middle[1]) > scale * shape[1] / 2


@pytest.mark.parametrize("fill", [0, -1000, -1024, 40, 3071, 32767])
def test_fill_of_any_value_is_air_and_lung_stays_in_the_body(
    small_thorax: Thorax, fill: int
) -> None:
    hu = small_thorax.hu.copy()
    hu[:, outside_circle(hu.shape, 1.02)] = fill
    for plane in hu:
        fill_as_air(plane)
    assert hu[:, 0, 0].max() <= -1000
    volume = volume_of(small_thorax, hu)
    lungs = lungs_of(volume, Everything())
    truth = small_thorax.left_lung | small_thorax.right_lung
    assert not lungs.labels[:, :3].any()
    assert not lungs.labels[:, outside_circle(hu.shape, 1.02)].any()
    assert not ((lungs.labels > 0) & ~body_of(volume)).any()
    assert (truth & ~body_of(volume)).sum() <= 0.001 * truth.sum()


def test_a_plane_without_fill_is_left_alone(small_thorax: Thorax) -> None:
    for plane in small_thorax.hu:
        same = plane.copy()
        fill_as_air(same)
        np.testing.assert_array_equal(same, plane)


@pytest.mark.parametrize("margin", [12, 20])
def test_lung_that_the_field_of_view_cuts_stays_in_the_body(
    small_thorax: Thorax, margin: int
) -> None:
    truth = small_thorax.left_lung | small_thorax.right_lung
    columns = np.flatnonzero(truth.any(axis=(0, 1)))
    kept = slice(int(columns[0]) + margin, int(columns[-1]) - margin + 1)
    cut = np.ascontiguousarray(small_thorax.hu[:, :, kept])
    body = body_of(canonical_volume(cut, small_thorax.spacing, small_thorax.origin))
    inside = truth[:, :, kept]
    assert (inside & body).sum() > 0.95 * inside.sum()


@pytest.mark.parametrize("wall_mm", [4, 6, 8, 10, 15])
@pytest.mark.parametrize("scale", [1.0, 0.6, 0.42], ids=["adult", "1 l", "350 ml"])
def test_lungs_behind_thin_walls_are_in_the_body_and_the_table_is_not(
    small_thorax: Thorax, wall_mm: float, scale: float
) -> None:
    volume = thin_walled(small_thorax, wall_mm, scale)
    body = body_of(volume)
    truth = small_thorax.left_lung | small_thorax.right_lung
    assert (truth & body).sum() > 0.99 * truth.sum()
    patient = np.flatnonzero(truth.any(axis=(0, 2)))[-1]
    below = round(patient + (wall_mm + 5) / volume.geometry.pixel_spacing[0])
    chest = body[truth.any(axis=(1, 2))]
    assert not chest[:, below + 1 :].any()
    assert not chest[:, :2].any()
    assert not chest[:, :, :2].any()


def test_implausibly_large_lungs_are_rejected(small_thorax: Thorax) -> None:
    spacing = tuple(1.6 * step for step in small_thorax.spacing)
    large = canonical_volume(small_thorax.hu.copy(), spacing, small_thorax.origin)
    model = LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung)
    with pytest.raises(
        SeriesRejected, match=r"would hold \d+ ml, more than the largest plausible"
    ) as caught:
        lungs_of(large, model)
    assert caught.value.reason is RejectReason.IMPLAUSIBLE_LUNGS
