"""Selects the stack of images to analyse from a series.

Images that declare themselves something else are set aside: a localizer, a reformat with its own
Stack ID, frames across the axial frames. All other images must form a single stack, or the series
is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from inference.loading.elements import integer, text_of
from inference.loading.eligibility import LOCALIZERS, is_derived
from inference.loading.frames import Frame

_MOST_LOCALIZERS = 3


def require_whole_concatenations(datasets: Sequence[Dataset]) -> None:
    """Reject an incomplete concatenation.

    Without In-concatenation Total Number (type 3, PS3.3 C.7.6.16.2.2.4) a missing last part
    cannot be detected.

    Raises:
        SeriesRejected: A part of a multi-frame image is missing, or came twice.
    """
    parts: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        concatenation = text_of(dataset, "ConcatenationUID")
        if concatenation:
            parts.setdefault(concatenation, []).append(dataset)
    for concatenation, members in parts.items():
        try:
            _require_whole(members)
        except SeriesRejected as rejection:
            message = f"concatenation {concatenation}: {rejection}"
            raise SeriesRejected(rejection.reason, message) from rejection


def _require_whole(members: Sequence[Dataset]) -> None:
    numbers = sorted(integer(part, "InConcatenationNumber") or 0 for part in members)
    total = max(integer(part, "InConcatenationTotalNumber") or 0 for part in members)
    total = max(total, *numbers, 1)
    missing = sorted(set(range(1, total + 1)) - set(numbers))
    if missing:
        raise SeriesRejected(
            RejectReason.INCOMPLETE_CONCATENATION,
            f"{len(missing)} of the {total} parts of a multi-frame image are missing, "
            f"the first is part {missing[0]}",
        )
    if len(numbers) > total:
        raise SeriesRejected(
            RejectReason.INCOMPLETE_CONCATENATION,
            f"a multi-frame image of {total} parts came as {len(numbers)} instances",
        )
    place = 0
    for part in sorted(members, key=lambda part: integer(part, "InConcatenationNumber") or 0):
        offset = integer(part, "ConcatenationFrameOffsetNumber")
        if offset is not None and offset != place:
            raise SeriesRejected(
                RejectReason.INCOMPLETE_CONCATENATION,
                f"part {integer(part, 'InConcatenationNumber')} of {len(members)} begins with "
                f"frame {offset + 1}, not {place + 1}",
            )
        place += integer(part, "NumberOfFrames") or 1


def one_stack(frames: Sequence[Frame]) -> list[Frame]:
    """Return the images to analyse, in the order of ``frames``.

    Raises:
        SeriesRejected: The series holds more than one stack.
    """
    images = _without_derived_stacks(_without_localizers(frames))
    multi = [frame for frame in images if frame.number is not None]
    if multi and len(multi) < len(images):
        raise SeriesRejected(
            RejectReason.SEVERAL_VOLUMES,
            f"the series mixes {len(images) - len(multi)} single-frame images with {len(multi)} "
            "frames of multi-frame images",
        )
    for organization in dict.fromkeys(frame.stack[0] for frame in multi):
        own = [frame for frame in multi if frame.stack[0] == organization]
        _require_single(own, lambda frame: frame.stack[1] or None, "axial stacks in one image")
    _require_single(multi, lambda frame: frame.moment, "points in time")
    _require_single(multi, lambda frame: frame.tube_voltage, "tube voltages")
    return images


def _without_localizers(frames: Sequence[Frame]) -> list[Frame]:
    """Leave localizers out, unless the series holds nothing else.

    Some localizers say so in Image Type. Others only lean: up to three single images across an
    axial stack cannot belong to it. More such images are a second stack, which the geometry checks
    reject. Leaning frames of a multi-frame image are always left out.
    """
    images = [frame for frame in frames if not LOCALIZERS & set(frame.image_type)] or list(frames)
    axial = [frame for frame in images if not frame.leans]
    single = sum(frame.leans and frame.number is None for frame in images)
    return axial if axial and single <= _MOST_LOCALIZERS else images


def _without_derived_stacks(images: list[Frame]) -> list[Frame]:
    """Leave out reformats and maps with their own Stack ID next to an original stack."""
    plain = [frame for frame in images if not is_derived(frame.image_type)]
    stacks = {frame.stack for frame in plain}
    apart = all(
        frame.number is not None and frame.stack[1] and frame.stack not in stacks
        for frame in images
        if is_derived(frame.image_type)
    )
    return plain if plain and apart else images


def _require_single(
    frames: Sequence[Frame], value_of: Callable[[Frame], Hashable | None], spoken: str
) -> None:
    """Reject frames with several values of an attribute that is constant within a volume.

    A missing value does not count, nor does a value per frame: a scan takes time, and some
    writers record it.
    """
    sizes: dict[Hashable, int] = {}
    for frame in frames:
        value = value_of(frame)
        if value is not None:
            sizes[value] = sizes.get(value, 0) + 1
    if len(sizes) > 1 and max(sizes.values()) > 1:
        raise SeriesRejected(
            RejectReason.SEVERAL_VOLUMES,
            f"{len(sizes)} {spoken}, of {min(sizes.values())} to {max(sizes.values())} frames: "
            "send one volume per series",
        )
