"""Networks of slices: cut to the box that matters, at any pixel size, with any scale of values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_models import ModelFolder, contract, linear_network, volume_of
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chestct.errors import ModelError
from inference.networks.preprocess import PlaneGrid, covering, to_grid, to_input
from inference.networks.session import load_model
from inference.networks.slices import SliceReader


def blobs(*shape: int) -> NDArray[np.int16]:
    """Return HU that change slowly, and differently along every axis."""
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return (700 * np.sin(3 * z + 2 * y**2 + 5 * x)).astype(np.int16)


def centre(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle slice as the probabilities of the only class."""
    return image[:, image.shape[1] // 2][:, None]


def test_the_cut_holds_the_box_and_leaves_the_rest_unread() -> None:
    volume = volume_of(blobs(4, 256, 256))
    sizes: list[tuple[int, ...]] = []

    def look(image: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(image.shape[2:])
        return centre(image)

    box = (slice(0, 4), slice(30, 80), slice(180, 250))
    reader = SliceReader(volume, contract(rows=256, columns=256), look, box)
    found = reader.probabilities([1, 2])
    assert found.shape == (2, 1, 256, 256)
    inside = (slice(None), 0, *box[1:])
    np.testing.assert_allclose(
        found[inside] * 2000 - 1000, volume.hu[1:3, box[1], box[2]], atol=0.1
    )
    ((rows, columns),) = sizes
    assert rows % 32 == columns % 32 == 0
    assert rows * columns <= 128 * 128


@given(
    rows=st.integers(20, 600),
    columns=st.integers(20, 600),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    size=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_any_box_is_read_whole(
    rows: int, columns: int, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    """A network that says 1 everywhere says it everywhere in the box."""
    first, second = (
        slice(int(at * room), min(room, int(at * room) + max(1, int(part * room))))
        for at, part, room in zip(corner, size, (rows, columns), strict=True)
    )
    volume = volume_of(np.zeros((1, rows, columns), np.int16))
    box = (slice(0, 1), first, second)
    reader = SliceReader(
        volume, contract(rows=96, columns=128), lambda image: np.ones_like(image[:, :1]), box
    )
    assert reader.probabilities([0])[0, 0, first, second].min() == pytest.approx(1)


def test_a_network_of_fixed_size_gets_whole_images(folder: ModelFolder) -> None:
    box = (slice(0, 3), slice(2, 4), slice(2, 4))
    volume = volume_of(blobs(3, 64, 64))
    for size in ((64, 64), ("rows", "columns")):
        content = linear_network([[1.0]], *size)
        manifest = folder.write("lesions", [[1.0]], rows=64, columns=64, content=content)
        reader = load_model(manifest, provider="CPU", threads=1).reader(volume, box)
        found = reader.probabilities([1])[0, 0]
        np.testing.assert_allclose(found[2:4, 2:4] * 2000 - 1000, volume.hu[1, 2:4, 2:4], atol=0.1)


@pytest.mark.parametrize("spacing", [(0.8, 0.9), (2.0, 2.0), (0.5, 0.6)])
def test_at_a_pixel_size_of_its_own_nothing_shifts(spacing: tuple[float, float]) -> None:
    """80 x 63 mm on 96 x 96 pixels: surrounded by air, or cut off at the borders."""
    volume = volume_of(blobs(2, 100, 70))
    own = contract(rows=96, columns=96, context=1, spacing=spacing)
    seen = to_input(volume, [1], own, {})
    assert seen.shape == (1, 1, 96, 96)
    back = to_grid(seen, volume.geometry, own)[0, 0] * 2000 - 1000
    grid = PlaneGrid.of(volume.geometry, own)
    cut = [max(0, -int(at)) / scaled for at, scaled in zip(grid.corner, grid.scaled, strict=True)]
    rows, columns = (
        slice(int(part * length) + 4, length - int(part * length) - 4)
        for part, length in zip(cut, (100, 70), strict=True)
    )
    error = back[rows, columns] - volume.hu[1, rows, columns]
    assert error.size > 1000
    assert np.abs(error).max() < 60
    assert abs(error.mean()) < 3


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({}, (0.0, 1.0)),
        ({"values": (-1.0, 1.0)}, (-1.0, 1.0)),
        ({"mean": -500.0, "std": 250.0}, (-2.0, 6.0)),
    ],
)
def test_values_are_on_the_scale_of_the_network(
    scale: dict[str, object], expected: tuple[float, float]
) -> None:
    hu = np.full((1, 16, 16), -1000, np.int16)
    hu[0, 8:] = 1500
    seen = to_input(volume_of(hu), [0], contract(context=1, **scale), {})
    assert (seen[0, 0, 0, 0], seen[0, 0, 15, 0]) == expected


def test_without_clahe_no_grey_level_is_lost() -> None:
    hu = np.arange(256, dtype=np.int16).reshape(1, 16, 16)
    seen = to_input(volume_of(hu), [0], contract(context=1), {})
    assert len(np.unique(seen)) == 256


def test_a_network_of_16_bits(folder: ModelFolder) -> None:
    content = linear_network([[1.0]], 16, 16, half=True)
    manifest = folder.write("lesions", [[1.0]], content=content)
    volume = volume_of(blobs(2, 16, 16))
    found = load_model(manifest, provider="CPU", threads=1).reader(volume).probabilities([0])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0] * 2000 - 1000, volume.hu[0], atol=2.0)


def test_channels_that_are_decisions_of_their_own_make_up_a_class_by_the_largest(
    folder: ModelFolder,
) -> None:
    manifest = folder.write(
        "lesions",
        [[1.0], [-1.0]],
        activation="sigmoid",
        classes=["a", "b"],
        extra='[labels]\nlesion = ["a", "b"]\n',
    )
    model = load_model(manifest, provider="CPU", threads=1)
    image = np.linspace(-3, 3, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    np.testing.assert_allclose(model.run(image), 1 / (1 + np.exp(-np.abs(image))), rtol=1e-5)


def test_the_lobes_of_a_network_are_two_lungs(folder: ModelFolder) -> None:
    lobes = ["none", "right upper", "right lower", "left upper", "left lower"]
    manifest = folder.write(
        "lungs",
        [[0.0], [0.2], [0.3], [0.1], [0.4]],
        classes=lobes,
        extra=(
            '[labels]\nright = ["right upper", "right lower"]\n'
            'left = ["left upper", "left lower"]\n'
        ),
    )
    model = load_model(manifest, provider="CPU", threads=1)
    assert model.classes == ("right", "left")
    found = model.run(np.ones((1, 1, 16, 16), np.float32))
    np.testing.assert_allclose(found[0, :, 0, 0], [0.5, 0.5], rtol=1e-6)


def _leaning(classes: int) -> bytes:
    """Return a network whose outputs depend on the neighbours to the left: no symmetry at all."""
    kernel = np.zeros((classes, 1, 1, 3), dtype=np.float32)
    kernel[:, 0, 0, 0] = 1 + np.arange(classes)
    node = helper.make_node("Conv", ["image", "kernel"], ["logits"], pads=[0, 1, 0, 1])
    graph = helper.make_graph(
        [node],
        "leaning",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes, 16, 16])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("task", ["lungs", "lesions"])
def test_a_mirrored_patient_is_read_alike(folder: ModelFolder, task: str) -> None:
    """With mirror = true nothing depends on the side, but that right and left change places."""
    classes = 3 if task == "lungs" else 1
    manifest = folder.write(task, [[0.0]] * classes, content=_leaning(classes))
    plain = load_model(manifest, provider="CPU", threads=1)
    manifest.write_text(manifest.read_text().replace("[input]\n", "[input]\nmirror = true\n"))
    model = load_model(manifest, provider="CPU", threads=1)
    image = np.random.default_rng(1).random((2, 1, 16, 16), dtype=np.float32)
    mirrored = np.ascontiguousarray(image[..., ::-1])
    found, again = model.run(image), model.run(mirrored)[..., ::-1]
    np.testing.assert_allclose(found, again[:, ::-1], atol=1e-6)
    assert not np.allclose(plain.run(image), plain.run(mirrored)[..., ::-1][:, ::-1], atol=0.1)


def test_the_mirrored_reading_is_left_out_where_it_cannot_matter() -> None:
    """Slices 0 to 3 hold at most 0, 0.4, 0.5 and 0.9; to reach 0.7 takes 0.4 in the first."""
    hu = np.full((4, 64, 64), -1000, np.int16)
    hu[1, 9, 9], hu[2, 9, 9], hu[3, 9, 9] = -200, 0, 800
    volume = volume_of(hu)
    mirrored: list[int] = []

    def look_again(images: NDArray[np.float32]) -> NDArray[np.float32]:
        mirrored.append(len(images))
        return np.ones_like(centre(images))

    grid = contract(rows=64, columns=64)
    reader = SliceReader(volume, grid, centre, None, look_again)
    found = reader.probabilities([0, 1, 2, 3], least=0.701)
    assert mirrored == [2]
    assert reader.unfinished([0, 1, 2, 3]) == [0, 1]
    complete = np.concatenate([found[:1:-1], reader.probabilities([1, 0])])
    assert reader.unfinished([0, 1, 2, 3]) == []
    assert mirrored == [2, 2]
    assert (found[:2] <= complete[:1:-1]).all()
    assert complete[:1:-1].max(axis=(1, 2, 3)) == pytest.approx([0.5, 0.7], abs=1e-3)
    again = SliceReader(volume, grid, centre, None, look_again).probabilities([3, 2, 1, 0])
    np.testing.assert_array_equal(again, complete)


def test_a_pixel_without_a_number_leaves_out_no_mirrored_reading() -> None:
    """A network in 16 bits may overflow in one pixel; the others still decide on the presence."""
    hu = np.full((1, 64, 64), -1000, np.int16)
    hu[0, 9, 9] = 800

    def overflowing(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found = centre(images).copy()
        found[..., 50, 50] = np.nan
        return found

    grid = contract(rows=64, columns=64)
    reader = SliceReader(volume_of(hu), grid, overflowing, None, centre)
    assert np.nanmax(reader.probabilities([0], least=0.7)) == pytest.approx(0.9, abs=1e-3)


@given(
    rows=st.integers(1, 700),
    columns=st.integers(1, 700),
    spacing=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)),
)
def test_the_input_of_a_network_of_the_body_holds_the_whole_plane(
    rows: int, columns: int, spacing: tuple[float, float]
) -> None:
    geometry = volume_of(np.zeros((1, rows, columns), np.int16)).geometry
    whole = covering(geometry, contract(spacing=spacing))
    grid = PlaneGrid.of(geometry, whole)
    assert whole.rows % 32 == whole.columns % 32 == 0
    assert min(grid.corner) >= 0
    assert all(
        scaled <= room < scaled + 33 for scaled, room in zip(grid.scaled, grid.inputs, strict=True)
    )


def _of_the_body(manifest: Path, spacing: str = "spacing = [1.35, 1.35]\n") -> Path:
    text = manifest.read_text().replace("[input]\n", f'[input]\ncrop = "body"\n{spacing}')
    manifest.write_text(text)
    return manifest


def test_a_network_of_fixed_size_cannot_follow_the_body(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]])
    assert not load_model(manifest, provider="CPU", threads=1).reads_body
    with pytest.raises(ModelError, match="crop needs a network of any rows"):
        load_model(_of_the_body(manifest), provider="CPU", threads=1)


def test_a_network_of_the_body_states_its_pixel_size(folder: ModelFolder) -> None:
    def manifest() -> Path:
        return folder.write("lungs", [[0.0], [1.0], [1.0]], size=("rows", "columns"))

    with pytest.raises(ModelError, match="crop needs the pixel size"):
        load_model(_of_the_body(manifest(), ""), provider="CPU", threads=1)
    assert load_model(_of_the_body(manifest()), provider="CPU", threads=1).reads_body
