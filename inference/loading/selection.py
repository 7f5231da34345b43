"""Which images of a series are the one stack that is analysed.

What says of itself that it is something else (a localizer, a reformat with a Stack ID of its own,
frames across the axial ones) is set aside. Nothing else ever is: what then remains must be one
stack, or the series is refused.
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
    """Let pass what is no part of a concatenation, or comes with all other parts.

    Without In-concatenation Total Number (type 3, PS3.3 C.7.6.16.2.2.4) a part that is missing
    at the end cannot be known of.

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
    numbers = sorted(integer(one, "InConcatenationNumber") or 0 for one in members)
    total = max(integer(one, "InConcatenationTotalNumber") or 0 for one in members)
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
            f"{len(numbers)} instances are the {total} parts of a multi-frame image",
        )
    place = 0
    for one in sorted(members, key=lambda one: integer(one, "InConcatenationNumber") or 0):
        offset = integer(one, "ConcatenationFrameOffsetNumber")
        if offset is not None and offset != place:
            raise SeriesRejected(
                RejectReason.INCOMPLETE_CONCATENATION,
                f"part {integer(one, 'InConcatenationNumber')} of {len(members)} begins with frame "
                f"{offset + 1}, not {place + 1}",
            )
        place += integer(one, "NumberOfFrames") or 1


def one_stack(frames: Sequence[Frame]) -> list[Frame]:
    """Return the images that are analysed, in the order in which they came.

    Raises:
        SeriesRejected: More than one stack could be meant.
    """
    images = _without_derived_stacks(_without_localizers(frames))
    multi = [frame for frame in images if frame.number is not None]
    if multi and len(multi) < len(images):
        raise SeriesRejected(
            RejectReason.SEVERAL_VOLUMES,
            f"single-frame and multi-frame images in one series: {len(images) - len(multi)} of the"
            f" former, {len(multi)} frames of the latter",
        )
    for organization in dict.fromkeys(frame.stack[0] for frame in multi):
        own = [frame for frame in multi if frame.stack[0] == organization]
        _require_one(own, lambda frame: frame.stack[1] or None, "axial stacks in one image")
    _require_one(multi, lambda frame: frame.moment, "points in time")
    _require_one(multi, lambda frame: frame.tube_voltage, "tube voltages")
    return images


def _without_localizers(frames: Sequence[Frame]) -> list[Frame]:
    """Leave localizers out where there are other images too.

    Some say so in Image Type. Some only lean: one to three single images across an axial stack
    can be no part of it. More would be a second stack, which is for the geometry checks to
    refuse; frames that lean are one by their own word.
    """
    images = [one for one in frames if not LOCALIZERS & set(one.image_type)] or list(frames)
    axial = [one for one in images if not one.leans]
    single = sum(one.leans and one.number is None for one in images)
    return axial if axial and single <= _MOST_LOCALIZERS else images


def _without_derived_stacks(images: list[Frame]) -> list[Frame]:
    """Leave reformats and maps out that have a Stack ID of their own beside a plain stack."""
    plain = [one for one in images if not is_derived(one.image_type)]
    stacks = {one.stack for one in plain}
    apart = all(
        one.number is not None and one.stack[1] and one.stack not in stacks
        for one in images
        if is_derived(one.image_type)
    )
    return plain if plain and apart else images


def _require_one(
    frames: Sequence[Frame], what: Callable[[Frame], Hashable | None], spoken: str
) -> None:
    """Refuse frames that differ in what only volumes differ in; not stated is no difference.

    Nor is it one when every frame has its own: a scan takes time, and some writers say so.
    """
    sizes: dict[Hashable, int] = {}
    for frame in frames:
        value = what(frame)
        if value is not None:
            sizes[value] = sizes.get(value, 0) + 1
    if len(sizes) > 1 and max(sizes.values()) > 1:
        raise SeriesRejected(
            RejectReason.SEVERAL_VOLUMES,
            f"{len(sizes)} {spoken}, of {min(sizes.values())} to {max(sizes.values())} frames: "
            "which one to analyse is not said",
        )
