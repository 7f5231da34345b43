"""HU are estimated from 8-bit slices: the pairs to learn from, a training, and the labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixed_rolls import FixedRolls
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra rales[train] is not installed")

from inference.networks.preprocess import equalised, windowed
from inference.reading.frame import PIXEL_MM
from phantom.volume import canonical_volume
from training import restoration
from training.data import LEFT, RIGHT, SliceSet
from training.grey import CANVAS, LIVE_INPUT, SLICE_INPUT
from training.networks import UNet
from training.restoration import (
    as_slice,
    estimate,
    in_hu,
    load_restorer,
    pairs_of,
    restored_slices,
    restorer,
    train_restorer,
)

pytestmark = pytest.mark.train


class _Known(UNet):
    """A network whose 8-bit slices are HU in the window of the networks already."""

    def __init__(self) -> None:
        super().__init__(1, 1, (1,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _plane(size: int = 128) -> NDArray[np.int16]:
    """Return HU of an ellipse of tissue with two lungs."""
    y, x = (axis / (size / 2) - 1 for axis in np.ogrid[:size, :size])
    plane = np.full((size, size), -1000, dtype=np.int16)
    plane[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    plane[((np.abs(x) - 0.4) / 0.28) ** 2 + (y / 0.5) ** 2 < 1] = -850
    return plane


def _patient(width: float) -> SliceSet:
    """Return four 8-bit slices; both lungs together are a part ``width`` of the image."""
    y, x = (axis / (CANVAS / 2) - 1 for axis in np.ogrid[:CANVAS, :CANVAS])
    side = width / 4
    image = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    image[(x / 0.95) ** 2 + (y / 0.75) ** 2 < 1] = 190
    lungs = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    for label, at in ((RIGHT, -width + side), (LEFT, width - side)):
        lungs[(np.abs(x - at) < side) & (np.abs(y) < 0.35)] = label
    image[lungs > 0] = 31
    lesion = (lungs == RIGHT) & (y > 0.1)
    image[lesion] = 185
    return SliceSet(
        images=np.stack([image] * 4),
        lungs=np.stack([lungs] * 4),
        lesions=np.stack([lesion] * 4),
        volumes=np.zeros(4, dtype=np.int64),
        names=("7",),
    )


def test_an_unchanged_plane_is_seen_by_both_sides() -> None:
    """With the draws that change nothing, only the window and the equalisation differ."""
    plane = _plane()
    given, wanted = as_slice(plane.astype(np.float32), FixedRolls(0.65))
    size = (CANVAS, CANVAS)
    live = cv2.resize(windowed(plane, LIVE_INPUT), size, interpolation=cv2.INTER_AREA)
    assert np.array_equal(wanted, np.round(live).astype(np.uint8))
    # Draws of this generator: the window of a source with fixed ends.
    random = FixedRolls(0.65)
    low, high = -1250 - random.uniform(-260, 60), random.uniform(200, 500)
    grey = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1).astype(np.float32)
    small = cv2.resize(grey * 255, size, interpolation=cv2.INTER_AREA)
    assert np.array_equal(given, equalised(np.asarray(small, np.float32), SLICE_INPUT))


@pytest.mark.parametrize("seed", range(8))
def test_a_slice_and_its_hu_show_the_same_place(seed: int) -> None:
    given, wanted = as_slice(_plane().astype(np.float32), np.random.default_rng(seed))
    for image in (given, wanted):
        assert image.dtype == np.uint8
        assert image.shape == (CANVAS, CANVAS)
    again = as_slice(_plane().astype(np.float32), np.random.default_rng(seed))
    assert np.array_equal(given, again[0])
    assert np.array_equal(wanted, again[1])
    smooth = [cv2.GaussianBlur(image.astype(np.float32), (0, 0), 3) for image in (given, wanted)]
    middle = (slice(64, 192), slice(40, 216))
    assert np.corrcoef(smooth[0][middle].ravel(), smooth[1][middle].ravel())[0, 1] > 0.8


def test_every_scan_but_the_first_has_opacities(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[NDArray[np.float32]] = []
    monkeypatch.setattr(restoration, "paint", lambda hu, *_args: painted.append(hu))
    plane = _plane()
    volume = canonical_volume(np.stack([plane] * 3), (5.0, 2.5, 2.5), (0.0, 0.0, 0.0))
    lungs = volume.hu == -850
    pairs_of(volume, lungs, range(1))
    assert painted == []
    given, wanted = pairs_of(volume, lungs, range(3))
    assert len({id(hu) for hu in painted}) == 2
    assert given.shape == wanted.shape == (9, CANVAS, CANVAS)
    monkeypatch.setattr(restoration, "_SLICES", 2)
    assert len(pairs_of(volume, lungs, range(3))[0]) == 6


def test_training_learns_to_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoration, "restorer", lambda: UNet(1, 1, (8, 16), fold=2))
    monkeypatch.setattr(restoration, "EPOCHS", 6)
    monkeypatch.setattr(restoration, "_CROP", 64)
    plane = _plane().astype(np.float32)
    pairs = [as_slice(plane, np.random.default_rng(seed)) for seed in range(24)]
    given, wanted = (np.stack([pair[at] for pair in pairs]) for at in (0, 1))
    said: list[str] = []
    network = train_restorer([(given[:12], wanted[:12]), (given[12:], wanted[12:])], said.append)
    assert len(said) == 6
    errors = [float(line.removesuffix(" HU").rpartition(" ")[2]) for line in said]
    assert errors[-1] < 0.7 * errors[0]
    assert not network.training


def test_the_estimate_is_in_the_window_of_the_networks() -> None:
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (30, 64, 64)).astype(np.uint8)
    hu = estimate(restorer(), images)
    assert hu.shape == images.shape
    assert hu.dtype == np.float32
    assert hu.min() >= -1024
    assert hu.max() <= 400
    assert in_hu(1.0) == 1424
    exact = estimate(_Known(), images)
    np.testing.assert_allclose(exact, images / 255 * 1424 - 1024, atol=0.01)


@pytest.mark.parametrize("width", [0.6, 0.77, 0.9])
def test_labels_stay_where_the_image_shows_them(width: float) -> None:
    data = restored_slices(_Known(), _patient(width))
    assert data.names == ("restored-7",)
    assert data.images.shape == data.lungs.shape == data.lesions.shape == (4, CANVAS, CANVAS)
    marked = (data.lungs > 0) & (data.images > 110)
    assert (marked ^ data.lesions).sum() < 0.05 * data.lesions.sum()
    assert (data.lungs[data.lesions] == RIGHT).all()
    columns = np.flatnonzero((data.lungs > 0).any(axis=(0, 1)))
    assert (columns[-1] - columns[0] + 1) * PIXEL_MM == pytest.approx(265, abs=2 * PIXEL_MM)


def test_outside_the_body_is_air() -> None:
    data = restored_slices(_Known(), _patient(0.77))
    assert not data.images[:, 0].any()
    # Tissue beside the body, as a table is, goes with the room air.
    patient = _patient(0.77)
    patient.images[:, 244:250, 60:190] = 190
    assert np.array_equal(restored_slices(_Known(), patient).images, data.images)


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    network = restorer().eval()
    torch.save(network.state_dict(), tmp_path / "restorer.pt")
    loaded = load_restorer(tmp_path / "restorer.pt")
    assert not loaded.training
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
