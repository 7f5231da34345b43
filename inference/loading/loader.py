"""Loads a complete series as a Hounsfield volume and checks that it can be analysed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from chestct.errors import InputUnavailable, RejectReason, SeriesRejected
from chestct.geometry import Geometry
from chestct.identity import patient_key
from chestct.series import ReceivedInstance, Series
from chestct.text import printable
from chestct.uids import Uid
from chestct.volume import Volume
from inference.loading.acquisitions import Acquisitions
from inference.loading.decoder_process import DecoderProcess, FrameDecoder
from inference.loading.elements import UNPARSABLE, raw_of, value_of
from inference.loading.eligibility import require_eligible
from inference.loading.fill import fill_as_air
from inference.loading.foreign_images import without_foreign_images
from inference.loading.frames import Frame, frames_of
from inference.loading.headers import SliceHeader, series_facts, slice_headers
from inference.loading.pixels import stored_frames, to_hu
from inference.loading.rejections import for_each_image, naming_images
from inference.loading.rules import EligibilityRules
from inference.loading.selection import one_stack, require_whole_concatenations
from inference.loading.stacking import stack

_QUOTED = 100
MOST_VOXELS = 1 << 30
"""Largest series that is analysed, in voxels: 1024 slices of 1024 by 1024, 2 GiB of HU. A larger
series would run into the memory limit, three times, instead of being rejected with a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingPolicy:
    """Which series are loaded and which are rejected."""

    rules: EligibilityRules = field(default_factory=EligibilityRules)


def load(series: Series, policy: LoadingPolicy, *, decoder: FrameDecoder | None = None) -> Volume:
    """Return the volume of a series, int16 HU (slice, row, column).

    Images that are not slices of the stack are set aside: localizers and other stacks
    (:mod:`inference.loading.selection`), and, with a note, a few foreign images
    (:mod:`inference.loading.foreign_images`) if the stack is complete without them. Any other
    image that does not fit makes the series rejected.

    ``decoder`` decodes compressed frames; by default a process for this series alone.

    Raises:
        SeriesRejected: The series is not eligible, mixes patients, studies or geometries,
            or does not form a complete regular grid. The message says what is wrong, in numbers.
        InputUnavailable: A file is missing or cannot be read now.
    """
    datasets = for_each_image(series.instances, lambda instance: instance.sop_instance_uid, _read)
    _require_one_patient(series, datasets)
    _require_images(datasets)
    require_whole_concatenations(datasets)
    headers, geometry, frame_of_reference, notes = _grid(frames_of(datasets), policy)
    with nullcontext(decoder) if decoder else DecoderProcess() as used:
        hu = _fill(datasets, headers, used)
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


def _grid(frames: Sequence[Frame], policy: LoadingPolicy) -> _Grid:
    kept, foreign = without_foreign_images(frames)
    if foreign:
        try:
            headers, geometry, uid, _ = _stacked(kept, policy)
        except SeriesRejected:
            pass  # not complete without them: check all images and reject for what is wrong there
        else:
            if not any(image.continues(geometry) for image in foreign):
                return headers, geometry, uid, tuple(image.note for image in foreign)
    return _stacked(frames, policy)


def _stacked(frames: Sequence[Frame], policy: LoadingPolicy) -> _Grid:
    images = one_stack(frames)
    uid = _frame_of_reference([frame.dataset for frame in images])
    headers = slice_headers(images)
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


def _read(instance: ReceivedInstance) -> Dataset:
    try:
        dataset = pydicom.dcmread(instance.path)
    except OSError as error:
        raise InputUnavailable.because_of(error, instance.sop_instance_uid) from error
    except (InvalidDicomError, EOFError, *UNPARSABLE) as error:
        raise SeriesRejected(
            RejectReason.BAD_PIXELS, "the stored file is not readable as DICOM"
        ) from error
    if not isinstance(value_of(dataset.file_meta, "TransferSyntaxUID"), str):
        raise SeriesRejected(RejectReason.BAD_PIXELS, "the stored file has no Transfer Syntax UID")
    return dataset


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
    datasets: Sequence[Dataset], headers: Sequence[SliceHeader], decoder: FrameDecoder
) -> np.ndarray:
    """Decode every slice, in slice order, into one array."""
    voxels = len(headers) * headers[0].rows * headers[0].columns
    if voxels > MOST_VOXELS:
        raise SeriesRejected(
            RejectReason.TOO_LARGE,
            f"the series has {voxels} voxels, at most {MOST_VOXELS} are analysed",
        )
    hu = np.empty((len(headers), headers[0].rows, headers[0].columns), dtype=np.int16)
    places: dict[int, dict[int, int]] = {}
    for place, header in enumerate(headers):
        places.setdefault(header.instance, {})[header.frame] = place
    for instance, members in places.items():
        try:
            for frame, stored in stored_frames(datasets[instance], members.keys(), decoder):
                to_hu(stored, headers[members[frame]], hu[members[frame]])
                fill_as_air(hu[members[frame]])
        except SeriesRejected as rejection:  # skip the other images: decoding may take long
            uid = _name_of(datasets[instance])
            count = f"one of {len(places)} images: " if len(places) > 1 else ""
            message = f"{count}{uid}: {rejection}"
            raise SeriesRejected(rejection.reason, message) from rejection
    return hu
