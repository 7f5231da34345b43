"""Loads a complete series as a Hounsfield volume and checks that it can be analysed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Geometry
from chestct.identity import patient_key
from chestct.series import Series
from chestct.text import printable
from chestct.uids import Uid
from chestct.volume import Volume
from inference.loading.acquisitions import Acquisitions
from inference.loading.decoder_process import DecoderPool, FrameDecoder
from inference.loading.elements import raw_of, value_of
from inference.loading.eligibility import require_eligible
from inference.loading.fill import fill_as_air
from inference.loading.foreign_images import without_foreign_images
from inference.loading.frames import Frame, frames_of
from inference.loading.headers import SliceHeader, series_facts, slice_headers
from inference.loading.parallel import THREADS, run_in_order
from inference.loading.pixels import StoredFrames, to_hu
from inference.loading.planes import Planes
from inference.loading.rejections import for_each_image, naming_images
from inference.loading.rules import EligibilityRules
from inference.loading.selection import one_stack, require_whole_concatenations
from inference.loading.stacking import stack
from inference.loading.stored_images import (
    MOST_VOXELS,
    StoredImage,
    StoredSeries,
    read_series,
)

_QUOTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingPolicy:
    """Which series are loaded and which are rejected."""

    rules: EligibilityRules = field(default_factory=EligibilityRules)


def load(
    series: Series,
    policy: LoadingPolicy,
    *,
    stored: StoredSeries | None = None,
    decoder: FrameDecoder | None = None,
) -> Volume:
    """Return the volume of a series, int16 HU (slice, row, column).

    Images that are not slices of the stack are set aside: localizers and other stacks
    (:mod:`inference.loading.selection`), and, with a note, a few foreign images
    (:mod:`inference.loading.foreign_images`) if the stack is complete without them. Any other
    image that does not fit makes the series rejected.

    Args:
        series: The series.
        policy: Which series are loaded.
        stored: The files of the series if they were read before; they serve one call.
        decoder: Decodes compressed frames; by default processes for this series alone.

    Raises:
        SeriesRejected: The series is not eligible, mixes patients, studies or geometries,
            or does not form a complete regular grid. The message says what is wrong, in numbers.
        InputUnavailable: A file is missing or cannot be read now.
    """
    stored = stored or read_series(series)
    headers, geometry, frame_of_reference, notes = _grid(_frames(series, stored), policy, stored)
    with nullcontext(decoder) if decoder else DecoderPool(THREADS) as used:
        hu = _fill(stored, headers, used)
    return Volume(
        hu=hu,
        geometry=geometry,
        sources=tuple(header.source for header in headers),
        series_uid=series.series_uid,
        frame_of_reference_uid=frame_of_reference,
        thickness_mm=headers[0].thickness_mm,
        notes=notes,
    )


_Grid = tuple[list[SliceHeader], Geometry, Uid, tuple[str, ...]]
"""The slices in order, their grid, the Frame of Reference UID, and notes on images set aside."""


def _frames(series: Series, stored: StoredSeries) -> list[Frame]:
    """Return every image of the series; reject files that are no CT images of one patient."""
    datasets = for_each_image(
        stored.images, lambda image: image.instance.sop_instance_uid, lambda image: image.dataset
    )
    _require_one_patient(series, datasets)
    _require_images(datasets)
    require_whole_concatenations(datasets)
    return frames_of(datasets)


def _grid(frames: Sequence[Frame], policy: LoadingPolicy, stored: StoredSeries) -> _Grid:
    parsed = {index: image.header for index, image in enumerate(stored.images) if image.header}
    kept, foreign = without_foreign_images(frames)
    if foreign:
        try:
            headers, geometry, uid, _ = _stacked(kept, policy, parsed)
        except SeriesRejected:
            pass  # not complete without them: check all images and reject for what is wrong there
        else:
            if not any(image.continues(geometry) for image in foreign):
                return headers, geometry, uid, tuple(image.note for image in foreign)
    return _stacked(frames, policy, parsed)


def _stacked(
    frames: Sequence[Frame], policy: LoadingPolicy, parsed: Mapping[int, SliceHeader]
) -> _Grid:
    images = one_stack(frames)
    uid = _frame_of_reference([frame.dataset for frame in images])
    headers = slice_headers(images, parsed)
    require_eligible(series_facts(images, headers), policy.rules)
    acquisitions = Acquisitions.of(images)
    try:
        order, geometry = stack(headers, policy.rules.maximum_thickness_mm)
    except SeriesRejected as rejection:
        raise acquisitions.named_in(rejection) from rejection
    acquisitions.require_apart(order)
    return [headers[index] for index in order], geometry, uid, ()


def _require_one_patient(series: Series, datasets: Sequence[Dataset]) -> None:
    """Reject a mix of patients or studies.

    The patients come from the images, since a state file may hold keys of an older version.
    """
    names = [instance.sop_instance_uid for instance in series.instances]
    _require_same(
        names,
        [patient_key(*_patient(dataset)) for dataset in datasets],
        RejectReason.MIXED_PATIENTS,
        lambda count, *_: f"{count} different patients under one Series Instance UID",
    )
    _require_same(
        names,
        [str(instance.study_uid) for instance in series.instances],
        RejectReason.MIXED_STUDIES,
        lambda count, usual, odd: (
            f"{count} different studies under one Series Instance UID, most images belong to "
            f"{usual}, this image to {odd}"
        ),
    )


def _require_same(
    names: Sequence[str],
    values: Sequence[str],
    reason: RejectReason,
    message_of: Callable[[int, str, str], str],
) -> None:
    """Reject images whose value differs from the value of most images."""
    ((usual, _),) = Counter(values).most_common(1)
    odd = [place for place, value in enumerate(values) if value != usual]
    if odd:
        message = message_of(len(set(values)), usual, values[odd[0]])
        raise SeriesRejected(reason, naming_images(len(odd), len(values), names[odd[0]], message))


def _patient(dataset: Dataset) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        raw_of(dataset, "PatientID"),
        raw_of(dataset, "IssuerOfPatientID"),
        raw_of(dataset, "PatientName"),
        raw_of(dataset, "SpecificCharacterSet"),
    )


def _require_images(datasets: Sequence[Dataset]) -> None:
    for_each_image(datasets, _name_of, _require_image)


def _require_image(dataset: Dataset) -> None:
    modality = str(value_of(dataset, "Modality") or "missing")[:16]
    if modality != "CT":
        raise SeriesRejected(RejectReason.NOT_CT, f"Modality is {modality}, only CT is analysed")
    if "PixelData" not in dataset:
        raise SeriesRejected(RejectReason.BAD_PIXELS, "the object has no Pixel Data")


def _name_of(dataset: Dataset) -> str:
    return str(value_of(dataset, "SOPInstanceUID") or "an image without a UID")


def _frame_of_reference(datasets: Sequence[Dataset]) -> Uid:
    uids = [
        str(value_of(dataset, "FrameOfReferenceUID") or "").strip(" \0") for dataset in datasets
    ]
    _require_same(
        [_name_of(dataset) for dataset in datasets],
        uids,
        RejectReason.MIXED_FRAMES_OF_REFERENCE,
        lambda count, usual, odd: (
            f"{count} different values of Frame of Reference UID, most images have "
            f"{printable(usual, _QUOTED) or 'none'}, this image has "
            f"{printable(odd, _QUOTED) or 'none'}"
        ),
    )
    uid = uids[0]
    try:
        return Uid(uid)
    except ValueError as error:
        message = (
            f'Frame of Reference UID is "{printable(uid, _QUOTED)}" ({len(uid)} characters): '
            "a UID has at most 64 characters, digits and dots only"
            if uid
            else "the images have no Frame of Reference UID"
        )
        raise SeriesRejected(RejectReason.NO_FRAME_OF_REFERENCE, message) from error


def _fill(
    stored: StoredSeries, headers: Sequence[SliceHeader], decoder: FrameDecoder
) -> NDArray[np.int16]:
    """Return the HU of every slice, in slice order; decode the slices that are not decoded yet."""
    rows, columns = headers[0].rows, headers[0].columns
    voxels = len(headers) * rows * columns
    if voxels > MOST_VOXELS:
        raise SeriesRejected(
            RejectReason.TOO_LARGE,
            f"the series has {voxels} voxels, at most {MOST_VOXELS} are analysed",
        )
    planes = stored.planes
    numbers = [stored.images[header.instance].number for header in headers]
    multi_frame = any(header.source.frame_number is not None for header in headers)
    if planes is None or planes.shape != (rows, columns) or multi_frame:
        planes, numbers = Planes(rows, columns), list(range(len(headers)))
    planes.reserve(max(numbers) + 1)
    missing: dict[int, list[tuple[SliceHeader, NDArray[np.int16]]]] = {}
    for header, number in zip(headers, numbers, strict=True):
        if not stored.images[header.instance].is_decoded:
            members = missing.setdefault(header.instance, [])
            members.append((header, planes.plane(number)))
    images = {index: stored.images[index] for index in missing}
    naming = _naming(len({header.instance for header in headers}))
    run_in_order(_steps(images, missing, decoder, naming), decoder.at_once)
    return planes.ordered(numbers)


_Naming = Callable[[StoredImage], AbstractContextManager[None]]
"""Returns a context that names the image in a rejection."""


def _steps(
    images: Mapping[int, StoredImage],
    missing: Mapping[int, Sequence[tuple[SliceHeader, NDArray[np.int16]]]],
    decoder: FrameDecoder,
    naming: _Naming,
) -> Iterator[Callable[[], None]]:
    """Yield the steps that decode the missing slices, in slice order but for multi-frame images."""
    for index, members in missing.items():
        with naming(images[index]):
            frames = StoredFrames(images[index].dataset, decoder)
        for header, plane in members:
            yield partial(_decode, frames, header, plane, naming(images[index]))


def _decode(
    frames: StoredFrames,
    header: SliceHeader,
    plane: NDArray[np.int16],
    named: AbstractContextManager[None],
) -> None:
    with named:
        to_hu(frames.values(header.frame), header, plane)
    fill_as_air(plane)


def _naming(count: int) -> _Naming:
    @contextmanager
    def named(image: StoredImage) -> Iterator[None]:
        try:
            yield
        except SeriesRejected as rejection:  # of one image: decoding the others may take long
            among = f"one of {count} images: " if count > 1 else ""
            message = f"{among}{_name_of(image.dataset)}: {rejection}"
            raise SeriesRejected(rejection.reason, message) from rejection

    return named
