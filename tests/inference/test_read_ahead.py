"""A series that is read while it arrives is the series that is read at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_series import SLICES, SeriesMaker, enhanced_ct, stored_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from chestct.errors import InputUnavailable, SeriesRejected
from chestct.series import Series
from chestct.volume import Volume
from inference.loading import stored_images
from inference.loading.decoder_process import DecoderPool
from inference.loading.loader import LoadingPolicy, load
from inference.loading.read_ahead import ReadAhead
from inference.loading.stored_images import SeriesReader, read_series

POLICY = LoadingPolicy()
GIGABYTE = 1 << 30
_ANY_NUMBER_OF_TIMES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderPool]:
    with DecoderPool(2) as pool:
        yield pool


@pytest.fixture
def ahead() -> Iterator[ReadAhead]:
    ahead = ReadAhead()
    yield ahead
    ahead.keep(())


def read(ahead: ReadAhead, series: Series, budget: int = GIGABYTE) -> int:
    return ahead.read(series.series_uid, series.instances, seconds=1000, budget=budget)


def require_same(volume: Volume, plain: Volume) -> None:
    np.testing.assert_array_equal(volume.hu, plain.hu)
    assert (volume.geometry, volume.sources) == (plain.geometry, plain.sources)
    assert (volume.notes, volume.thickness_mm) == (plain.notes, plain.thickness_mm)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Series]:
    """Series of every way to store pixels, one with a localizer and another size first."""

    def maker(name: str) -> SeriesMaker:
        return SeriesMaker(tmp_path_factory.mktemp(name))

    def compress_some(index: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = str(-1024 - index)
        if index % 3:
            dataset.PixelPaddingValue = 0

    mixed = maker("mixed")(compress_some)
    for instance in mixed.instances[::2]:
        dataset = pydicom.dcmread(instance.path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(instance.path)

    def localizer(index: int, dataset: Dataset) -> None:
        if index == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows

    return [
        maker("explicit")(),
        maker("implicit")(signed=True, syntax=ImplicitVRLittleEndian),
        maker("rle")(syntax=RLELossless),
        maker("localizer")(localizer),
        maker("enhanced").write([enhanced_ct(stored_values())]),
        mixed,
    ]


@given(data=st.data())
@_ANY_NUMBER_OF_TIMES
def test_no_order_of_arrival_changes_the_volume(
    kinds: list[Series], decoder: DecoderPool, data: st.DataObject
) -> None:
    series = data.draw(st.sampled_from(kinds))
    arrived = data.draw(st.permutations(series.instances))
    known = data.draw(st.integers(0, len(arrived)))
    reader, place = SeriesReader(), 0
    while place < known:
        count = data.draw(st.integers(1, len(arrived)))
        again = data.draw(st.integers(0, place))
        decodes = data.draw(st.booleans())
        reader.read(arrived[again : place + count], decoder if decodes else None)
        place += count
    stored = reader.stored(series.instances)
    plain = load(series, POLICY, decoder=decoder)
    require_same(load(series, POLICY, stored=stored, decoder=decoder), plain)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_no_file_is_read_again_at_the_end(
    make_ct: SeriesMaker, ahead: ReadAhead, monkeypatch: pytest.MonkeyPatch, syntax: UID
) -> None:
    series = make_ct(syntax=syntax)
    plain = load(series, POLICY)
    assert read(ahead, series) == SLICES
    with monkeypatch.context() as patched:
        patched.setattr(stored_images, "_read", None)
        stored = ahead.stored(series)
    assert all(image.is_decoded for image in stored.images)
    require_same(load(series, POLICY, stored=stored), plain)


def test_a_series_that_grows_or_changes_is_read_as_it_is_at_the_end(
    make_ct: SeriesMaker, ahead: ReadAhead, tmp_path: Path
) -> None:
    """Slices that came twice, with other values, and more slices after the first reading."""
    whole = make_ct(slices=30)
    old = tmp_path / "old.dcm"
    dataset = pydicom.dcmread(whole.instances[3].path)
    dataset.RescaleIntercept = "-1000"
    dataset.save_as(old)
    first = [replace(whole.instances[3], path=old), *whole.instances[4:28]]
    read(ahead, Series.of(first))
    stored = ahead.stored(whole)
    require_same(load(whole, POLICY, stored=stored), load(whole, POLICY))


def test_a_file_that_changed_since_is_read_again(make_ct: SeriesMaker, ahead: ReadAhead) -> None:
    series = make_ct()
    read(ahead, series)
    dataset = pydicom.dcmread(series.instances[3].path)
    dataset.RescaleIntercept = "-1000"
    dataset.save_as(series.instances[3].path)
    series.instances[5].path.unlink()
    images = ahead.stored(series).images
    assert images[3].content_digest == read_series(series).images[3].content_digest
    with pytest.raises(InputUnavailable):
        _ = images[5].dataset


def test_images_beyond_the_budget_are_read_at_the_end(
    make_ct: SeriesMaker, ahead: ReadAhead
) -> None:
    series = make_ct()
    size = sum(instance.size for instance in series.instances)
    assert read(ahead, series, budget=size // 2) == SLICES
    assert 0 < ahead._readers[series.series_uid].size <= size // 2
    require_same(load(series, POLICY, stored=ahead.stored(series)), load(series, POLICY))


def test_four_series_in_flight_share_the_budget(
    kinds: list[Series], ahead: ReadAhead, decoder: DecoderPool
) -> None:
    flying = [
        replace_uid(series, f"1.2.{number}") for number, series in enumerate(kinds[:3] + kinds[5:])
    ]
    budget = sum(instance.size for series in flying for instance in series.instances)
    for first in range(0, SLICES, 5):
        for series in flying:
            batch = series.instances[first : first + 5]
            ahead.read(series.series_uid, batch, seconds=1000, budget=budget)
    assert sum(reader.size for reader in ahead._readers.values()) <= budget
    for series in flying:
        stored = ahead.stored(series)
        volume = load(series, POLICY, stored=stored, decoder=decoder)
        require_same(volume, load(series, POLICY, decoder=decoder))
    assert not ahead._readers


def replace_uid(series: Series, uid: Any) -> Series:
    return Series.of(replace(instance, series_uid=uid) for instance in series.instances)


def test_a_damaged_frame_is_judged_with_its_series(make_ct: SeriesMaker, ahead: ReadAhead) -> None:
    series = make_ct(syntax=RLELossless)
    dataset = pydicom.dcmread(series.instances[7].path)
    dataset.PixelData = dataset.PixelData[:-40]
    dataset.save_as(series.instances[7].path)
    read(ahead, series)
    with pytest.raises(SeriesRejected) as plain:
        load(series, POLICY)
    with pytest.raises(SeriesRejected) as early:
        load(series, POLICY, stored=ahead.stored(series))
    assert str(early.value) == str(plain.value)


@pytest.mark.parametrize("early", [False, True], ids=["at the end", "early"])
def test_a_damaged_deflated_file_is_judged_with_its_series(
    make_ct: SeriesMaker, ahead: ReadAhead, *, early: bool
) -> None:
    """The digest of each file is checked first: a damaged disk is not blamed on the sender."""
    series = make_ct(syntax=DeflatedExplicitVRLittleEndian)
    damaged = series.instances[7]
    damaged.path.write_bytes(damaged.path.read_bytes()[:-100])
    if early:
        read(ahead, series)
    stored = ahead.stored(series)
    assert stored.images[7].size == damaged.size - 100
    with pytest.raises(SeriesRejected, match="not readable as DICOM"):
        load(series, POLICY, stored=stored)


def test_an_error_while_reading_ahead_costs_only_time(
    make_ct: SeriesMaker, ahead: ReadAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = make_ct()

    def fail(*_arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(stored_images, "to_hu", fail)
        assert read(ahead, series) == SLICES
    require_same(load(series, POLICY, stored=ahead.stored(series)), load(series, POLICY))


def test_a_series_that_is_not_kept_is_forgotten(make_ct: SeriesMaker, ahead: ReadAhead) -> None:
    series = make_ct()
    read(ahead, series)
    ahead.keep(())
    assert not ahead._readers
