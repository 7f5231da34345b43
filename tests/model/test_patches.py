"""3D networks: every voxel is covered, and what comes back lies where it came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_models import ModelFolder, volume_of
from numpy.typing import NDArray

from chestct.errors import ModelError
from inference.networks.manifest import PatchContract
from inference.networks.patches import PatchReader, blending, windows
from inference.networks.session import load_model

PATCH_INPUT = """\
[input]
kind = "patch"
patch = [4, 8, 8]
window = [-1000.0, 1000.0]
"""


def contract(**changes: object) -> PatchContract:
    fields = {"kind": "patch", "patch": (4, 8, 8), "window": (-1000.0, 1000.0)}
    return PatchContract.model_validate(fields | changes)


def identity(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the image as the probabilities of the only class."""
    assert image.dtype == np.float32
    return image


def blobs(*shape: int) -> NDArray[np.int16]:
    """Return HU that change slowly, and differently along every axis."""
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return (700 * np.sin(3 * z + 2 * y**2 + 5 * x)).astype(np.int16)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    patch=st.tuples(*[st.integers(1, 12)] * 3),
    overlap=st.floats(0, 0.9),
)
def test_windows_cover_every_voxel(
    shape: tuple[int, ...], patch: tuple[int, ...], overlap: float
) -> None:
    shape = tuple(max(have, want) for have, want in zip(shape, patch, strict=True))
    seen = np.zeros(shape, dtype=int)
    for window in windows(shape, patch, overlap):
        assert tuple(one.stop - one.start for one in window) == patch
        seen[window] += 1
    assert seen.min() >= 1


def test_windows_overlap_as_much_as_asked() -> None:
    starts = sorted({window[0].start for window in windows((100, 4, 4), (20, 4, 4), 0.5)})
    assert starts[0] == 0
    assert starts[-1] == 80
    assert max(np.diff(starts)) <= 10


@pytest.mark.parametrize("kind", ["gaussian", "constant"])
def test_every_voxel_of_a_patch_has_a_say(kind: str) -> None:
    weight = blending((6, 8, 10), kind)
    assert weight.shape == (6, 8, 10)
    assert weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1], rtol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_on_its_own_grid_nothing_changes(blend: str) -> None:
    volume = volume_of(blobs(9, 21, 17))
    reader = PatchReader(volume, contract(blending=blend), identity, None)
    found = reader.probabilities([8, 0, 3])
    assert found.shape == (3, 1, 21, 17)
    np.testing.assert_allclose(found[:, 0] * 2000 - 1000, volume.hu[[8, 0, 3]], atol=0.1)


def test_resampling_there_and_back_does_not_shift() -> None:
    volume = volume_of(blobs(24, 60, 50))
    coarse = contract(spacing=(4.0, 1.7, 1.1), patch=(8, 16, 16))
    found = PatchReader(volume, coarse, identity, None).probabilities(range(24))
    error = found[2:-2, 0, 3:-3, 3:-3] * 2000 - 1000 - volume.hu[2:-2, 3:-3, 3:-3]
    assert np.abs(error).max() < 45
    assert abs(error.mean()) < 4


def test_a_volume_smaller_than_a_patch_is_filled_up() -> None:
    seen: list[NDArray[np.float32]] = []

    def look(image: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(image)
        return image

    volume = volume_of(np.full((2, 5, 3), 1000, np.int16))
    found = PatchReader(volume, contract(values=(-1.0, 1.0)), look, None).probabilities([0, 1])
    (image,) = seen
    assert image.shape == (1, 1, 4, 8, 8)
    assert image[0, 0, :2, :5, :3].min() == 1
    assert image[0, 0, 2:].max() == image[0, 0, :, 5:].max() == -1
    assert found.shape == (2, 1, 5, 3)


def test_only_the_box_and_a_margin_are_read_once() -> None:
    read: list[int] = []

    def count(image: NDArray[np.float32]) -> NDArray[np.float32]:
        read.append(image.size)
        return image

    volume = volume_of(blobs(40, 128, 128))
    box = (slice(18, 22), slice(60, 68), slice(60, 68))
    reader = PatchReader(volume, contract(overlap=0.0), count, box)
    found = reader.probabilities(range(18, 22))
    np.testing.assert_allclose(
        found[:, 0, 60:68, 60:68] * 2000 - 1000, volume.hu[18:22, 60:68, 60:68], atol=0.1
    )
    reader.probabilities([20])
    assert sum(read) < volume.hu.size / 4
    assert reader.probabilities([0]).max() == 0


def test_a_3d_network_behind_its_manifest(folder: ModelFolder) -> None:
    """Two lesion channels of a softmax network make up the one class."""
    manifest = folder.write(
        "lesions",
        [[0.0], [40.0], [0.0]],
        activation="softmax",
        inputs=PATCH_INPUT,
        size=(4, 8, 8),
        classes=["background", "ground-glass", "consolidation"],
        extra='[labels]\nlesion = ["ground-glass", "consolidation"]\n',
    )
    model = load_model(manifest, provider="CPU", threads=1)
    assert model.classes == ("lesion",)
    volume = volume_of(blobs(9, 21, 17))
    found = model.reader(volume).probabilities(range(9))
    z = 40 * (volume.hu / 2000 + 0.5)
    np.testing.assert_allclose(found[:, 0], (np.exp(z) + 1) / (np.exp(z) + 2), atol=0.01)


def test_a_network_of_another_patch_is_refused(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]], inputs=PATCH_INPUT, size=(4, 8, 16))
    with pytest.raises(ModelError, match=r"has shape .*the manifest says \[n, 1, 4, 8, 8\]"):
        load_model(manifest, provider="CPU", threads=1)
