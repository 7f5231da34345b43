"""Whole series through the loader, compared voxel by voxel."""

from __future__ import annotations

import gdcm
import numpy as np
import pytest
from ct_series import (
    ORIGIN,
    SLICES,
    SPACING,
    STEP,
    SeriesMaker,
    ct_slice,
    enhanced_ct,
    stored_values,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from chestct.series import Series
from chestct.uids import derive_uid
from inference.loading.loader import LoadingPolicy, load

POLICY = LoadingPolicy()
LOSSLESS = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)


def expected_hu(*, signed: bool = False) -> NDArray[np.int32]:
    return np.maximum(stored_values(signed=signed) - 1024, -1024)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_every_transfer_syntax_gives_the_same_volume(
    make_ct: SeriesMaker, syntax: UID, *, signed: bool
) -> None:
    volume = load(make_ct(signed=signed, syntax=syntax), POLICY)
    np.testing.assert_array_equal(volume.hu, expected_hu(signed=signed))


@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_lossless_gives_the_same_volume(make_ct: SeriesMaker, *, signed: bool) -> None:
    series = make_ct(signed=signed)
    for instance in series.instances:
        _to_jpeg_lossless(str(instance.path))
    np.testing.assert_array_equal(load(series, POLICY).hu, expected_hu(signed=signed))


def _to_jpeg_lossless(path: str) -> None:
    reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(path)
    assert reader.Read()
    change.SetTransferSyntax(
        gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGLosslessSV1)))
    )
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(path)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_retired_big_endian_is_not_read_the_wrong_way_round(make_ct: SeriesMaker) -> None:
    def swap(_: int, dataset: Dataset) -> None:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()

    volume = load(make_ct(swap, syntax=ExplicitVRBigEndian), POLICY)
    np.testing.assert_array_equal(volume.hu, expected_hu())


def test_the_grid_is_that_of_the_headers(make_ct: SeriesMaker) -> None:
    series = make_ct()
    volume = load(series, POLICY)
    grid = volume.geometry
    assert grid.origin == ORIGIN
    assert (grid.pixel_spacing, grid.slice_spacing) == (SPACING, STEP)
    assert volume.series_uid == series.series_uid
    assert volume.frame_of_reference_uid == derive_uid("loading frame")
    for index, source in enumerate(volume.sources):
        assert source.sop_instance_uid == derive_uid(f"slice {index}")
        assert source.frame_number is None


def test_slices_ascend_along_their_normal_whatever_the_orientation(make_ct: SeriesMaker) -> None:
    """Rows that run to the right turn the normal to the feet: the order turns with it."""

    def mirror(_: int, dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    volume = load(make_ct(mirror), POLICY)
    assert volume.geometry.slice_cosines == (0, 0, -1)
    assert volume.geometry.origin[2] == ORIGIN[2] + STEP * (SLICES - 1)
    np.testing.assert_array_equal(volume.hu, expected_hu()[::-1])


def test_every_slice_has_its_own_rescale(make_ct: SeriesMaker) -> None:
    def rescale(index: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", str(-1000 + index)

    volume = load(make_ct(rescale), POLICY)
    offsets = np.arange(SLICES)[:, None, None] - 1000
    np.testing.assert_array_equal(volume.hu, np.rint(stored_values() * 0.5 + offsets))


def test_values_beyond_int16_are_clipped_and_not_wrapped(make_ct: SeriesMaker) -> None:
    def steep(_: int, dataset: Dataset) -> None:
        dataset.RescaleSlope = "100"

    volume = load(make_ct(steep), POLICY)
    np.testing.assert_array_equal(
        volume.hu, np.clip(stored_values().astype(np.int64) * 100 - 1024, -1024, 32767)
    )


@pytest.mark.parametrize(
    ("signed", "padding", "limit", "stored"),
    [
        (False, 0, None, [0]),
        (False, 4000, 4003, [4000, 4002, 4003]),
        (False, 4003, 4000, [4000, 4002, 4003]),
        (True, -2000, None, [-2000]),
    ],
)
def test_padding_becomes_air(
    make_ct: SeriesMaker, *, signed: bool, padding: int, limit: int | None, stored: list[int]
) -> None:
    values = stored_values(signed=signed)
    values[:, 0, : len(stored)] = stored

    def pad(index: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = "500"
        dataset.PixelPaddingValue = padding
        if limit is not None:
            dataset.PixelPaddingRangeLimit = limit
        dataset.PixelData = values[index].astype("<i2" if signed else "<u2").tobytes()

    volume = load(make_ct(pad, signed=signed), POLICY)
    low, high = sorted((padding, padding if limit is None else limit))
    wanted = np.where((values >= low) & (values <= high), -1024, np.maximum(values + 500, -1024))
    np.testing.assert_array_equal(volume.hu, wanted)


def test_negative_padding_written_as_unsigned_is_understood(make_ct: SeriesMaker) -> None:
    values = stored_values(signed=True)
    values[:, :3] = -2000

    def pad(index: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = "3000"
        dataset.add_new("PixelPaddingValue", "US", 63536)
        dataset.PixelData = values[index].astype("<i2").tobytes()

    assert (load(make_ct(pad, signed=True), POLICY).hu[:, :3] == -1024).all()


def test_bits_above_bits_stored_are_ignored(make_ct: SeriesMaker) -> None:
    def overlay(_: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2") | 0x5000
        dataset.PixelData = stored.astype("<u2").tobytes()

    np.testing.assert_array_equal(load(make_ct(overlay), POLICY).hu, expected_hu())


def test_enhanced_ct_is_read_frame_by_frame(make_ct: SeriesMaker) -> None:
    series = make_ct.write([enhanced_ct(stored_values())])
    volume = load(series, POLICY)
    assert volume.geometry.slice_spacing == STEP
    assert [source.frame_number for source in volume.sources] == list(range(SLICES, 0, -1))
    intercepts = -1024 - np.arange(SLICES)[::-1, None, None]
    np.testing.assert_array_equal(volume.hu, np.maximum(stored_values() + intercepts, -1024))


def test_a_localizer_beside_the_stack_is_set_aside(make_ct: SeriesMaker) -> None:
    series = make_ct(extra=[localizer(["ORIGINAL", "PRIMARY", "LOCALIZER"])])
    assert load(series, POLICY).geometry.shape[0] == SLICES


def test_a_localizer_without_its_image_type_is_known_by_its_direction(make_ct: SeriesMaker) -> None:
    series = make_ct(extra=[localizer(["ORIGINAL", "PRIMARY", "AXIAL"])])
    np.testing.assert_array_equal(load(series, POLICY).hu, expected_hu())


def localizer(image_type: list[str]) -> Dataset:
    """Return a frontal localizer: another size, direction and frame of reference."""
    scout = ct_slice(0, np.zeros((50, 60), np.int32))
    scout.file_meta.MediaStorageSOPInstanceUID = scout.SOPInstanceUID = derive_uid("scout")
    scout.ImageType, scout.Rows, scout.Columns = image_type, 50, 60
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout.FrameOfReferenceUID = derive_uid("scout frame")
    return scout


def test_the_order_of_arrival_does_not_matter(make_ct: SeriesMaker) -> None:
    series = make_ct()
    backwards = Series(series_uid=series.series_uid, instances=series.instances[::-1])
    first, second = load(series, POLICY), load(backwards, POLICY)
    np.testing.assert_array_equal(first.hu, second.hu)
    assert first.sources == second.sources
