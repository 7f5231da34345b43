"""Images that are not slices are set aside and named; possible slices never are."""

from __future__ import annotations

import pytest
from ct_series import ORIGIN, SLICES, STEP, SeriesMaker, ct_slice, stored_values
from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from chestct.uids import derive_uid
from inference.loading.loader import LoadingPolicy, load


def foreign(name: str, at: float, **elements: object) -> Dataset:
    dataset = ct_slice(0, stored_values()[0])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = derive_uid(name)
    dataset.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * at]
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


SHOT = {"ImageType": ["DERIVED", "SECONDARY"]}


def test_a_screenshot_at_the_place_of_a_slice_is_set_aside_and_named(make_ct: SeriesMaker) -> None:
    volume = load(make_ct(extra=[foreign("shot", 3, **SHOT)]), LoadingPolicy())
    assert volume.geometry.shape[0] == SLICES
    (note,) = volume.notes
    assert derive_uid("shot") in note
    assert derive_uid("shot") not in {one.sop_instance_uid for one in volume.sources}


def test_a_textbook_series_has_no_note(make_ct: SeriesMaker) -> None:
    assert load(make_ct(), LoadingPolicy()).notes == ()


@pytest.mark.parametrize("keyword", ["PixelSpacing", "RescaleSlope", "RescaleIntercept"])
def test_an_image_without_a_number_that_every_slice_has_is_set_aside(
    make_ct: SeriesMaker, keyword: str
) -> None:
    page = foreign("page", 3)
    delattr(page, keyword)
    volume = load(make_ct(extra=[page]), LoadingPolicy())
    assert volume.geometry.shape[0] == SLICES
    (note,) = volume.notes
    assert derive_uid("page") in note


@pytest.mark.parametrize("at", [-1, SLICES])
def test_an_image_that_continues_the_stack_is_not_set_aside(make_ct: SeriesMaker, at: int) -> None:
    with pytest.raises(SeriesRejected) as refused:
        load(make_ct(extra=[foreign("end", at, **SHOT)]), LoadingPolicy())
    assert refused.value.reason is RejectReason.DERIVED


def test_an_image_that_would_leave_a_gap_is_not_set_aside(make_ct: SeriesMaker) -> None:
    def unplaced(index: int, dataset: Dataset) -> None:
        if index == 7:
            del dataset.ImagePositionPatient

    with pytest.raises(SeriesRejected) as refused:
        load(make_ct(unplaced), LoadingPolicy())
    assert refused.value.reason is RejectReason.NO_POSITIONS


def test_many_foreign_images_are_not_set_aside(make_ct: SeriesMaker) -> None:
    shots = [foreign(f"shot {number}", number, **SHOT) for number in range(4)]
    with pytest.raises(SeriesRejected) as refused:
        load(make_ct(extra=shots), LoadingPolicy())
    assert refused.value.reason is RejectReason.DERIVED
