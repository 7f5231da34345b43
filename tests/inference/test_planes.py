"""The block of HU planes, and stored values as HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from ct_series import Change, SeriesMaker
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from chestct.errors import SeriesRejected
from chestct.series import Series
from inference.loading import stored_images
from inference.loading.decoder_process import DecoderPool, DecoderProcess
from inference.loading.frames import frames_of
from inference.loading.headers import SliceHeader, slice_headers
from inference.loading.loader import LoadingPolicy, load
from inference.loading.pixels import to_hu
from inference.loading.planes import Planes
from inference.loading.stored_images import read_series

POLICY = LoadingPolicy()


@given(st.permutations(range(9)), st.integers(1, 9))
def test_planes_are_ordered_in_their_block(order: list[int], count: int) -> None:
    planes = Planes(2, 3)
    for number in range(9):
        planes.reserve(number + 1)
        planes.plane(number)[...] = number
    size = planes.size
    volume = planes.ordered(order[:count])
    assert volume.shape == (count, 2, 3)
    assert [plane.tolist() for plane in volume] == [[[n] * 3] * 2 for n in order[:count]]
    assert planes.size == size == 9 * 2 * 3 * 2


def test_no_memory_for_the_planes_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="no memory for 1000000 slices"):
        Planes(1 << 14, 1 << 14).reserve(1_000_000)


def _by_formula(stored: NDArray[np.int64], header: SliceHeader) -> NDArray[np.int16]:
    values = np.rint(stored.astype(np.float32) * np.float32(header.slope) + header.intercept)
    if header.padding is not None:
        low, high = header.padding
        values[(stored >= low) & (stored <= high)] = -1024
    return np.clip(values, -1024, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> SliceHeader:
    series = SeriesMaker(tmp_path_factory.mktemp("series"))()
    (parsed,) = slice_headers(frames_of([read_series(series).images[0].dataset]))
    return parsed


@given(
    kind=st.sampled_from(["<i2", "<u2", ">i2", ">u2", "u1", "i1"]),
    slope=st.sampled_from([1.0, 0.5, 2.0]),
    intercept=st.one_of(st.integers(-70000, 70000).map(float), st.just(-1024.5)),
    padding=st.one_of(
        st.none(),
        st.tuples(st.integers(-33000, 66000), st.integers(0, 3000)).map(lambda p: (p[0], sum(p))),
    ),
    seed=st.integers(0, 1000),
)
def test_every_way_to_hu_gives_the_value_of_the_formula(
    header: SliceHeader,
    *,
    kind: str,
    slope: float,
    intercept: float,
    padding: tuple[int, int] | None,
    seed: int,
) -> None:
    limits = np.iinfo(np.dtype(kind))
    random = np.random.default_rng(seed)
    stored = random.integers(limits.min, limits.max, (7, 9), endpoint=True)
    stored[0, :2] = limits.min, limits.max
    out = np.empty((7, 9), dtype=np.int16)
    changed = replace(header, slope=slope, intercept=intercept, padding=padding)
    to_hu(stored.astype(kind), changed, out)
    np.testing.assert_array_equal(out, _by_formula(stored, changed))


def _rewritten(series: Series, change: Change) -> Series:
    for index, instance in enumerate(series.instances):
        dataset = pydicom.dcmread(instance.path)
        change(index, dataset)
        dataset.save_as(instance.path)
    return series


def test_uncompressed_pixels_are_not_kept_beside_their_hu(make_ct: SeriesMaker) -> None:
    stored = read_series(make_ct())
    assert all(image.is_decoded and not image.dataset.PixelData for image in stored.images)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_a_mix_of_syntaxes_is_the_volume_of_one(make_ct: SeriesMaker, syntax: str) -> None:
    """Every third slice is compressed; its plane is filled after those of the others."""
    series = make_ct()
    plain = load(series, POLICY)

    def change(index: int, dataset: Dataset) -> None:
        if index % 3 == 0:
            dataset.compress(syntax, generate_instance_uid=False)

    mixed = _rewritten(series, change)
    with DecoderPool(3) as pool:
        np.testing.assert_array_equal(load(mixed, POLICY, decoder=pool).hu, plain.hu)
    with DecoderProcess() as decoder:
        np.testing.assert_array_equal(load(mixed, POLICY, decoder=decoder).hu, plain.hu)


def test_a_rejection_names_the_first_damaged_image_whatever_ends_first(
    make_ct: SeriesMaker,
) -> None:
    def cut(index: int, dataset: Dataset) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        if index in {5, 6, 20}:
            dataset.PixelData = dataset.PixelData[:-20]

    series = _rewritten(make_ct(), cut)
    with pytest.raises(SeriesRejected) as rejection:
        load(series, POLICY)
    with DecoderProcess() as decoder, pytest.raises(SeriesRejected) as alone:
        load(series, POLICY, decoder=decoder)
    assert str(rejection.value) == str(alone.value)


def test_no_planes_are_reserved_for_a_series_that_is_too_large(
    make_ct: SeriesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = make_ct()
    monkeypatch.setattr(stored_images, "MOST_VOXELS", 1000)
    stored = read_series(series)
    assert stored.planes is not None
    assert stored.planes.size == 0
    assert not any(image.is_decoded for image in stored.images)
