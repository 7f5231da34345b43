"""Received instances and the series that they make up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chestct.uids import Uid, digest


def accession_key(number: bytes) -> str:
    """Return a digest that finds the images of an order, from its encoded Accession Number.

    Empty where there is none: that is no order.
    """
    return digest((number.hex(),)) if number else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedInstance:
    """One composite instance whose bytes are durable at ``path``.

    ``patient_key`` is that of :mod:`chestct.identity`: enough to see that two instances
    disagree, without naming anybody in the state file. ``slice_position`` is
    the signed distance of the slice along its own normal in mm, where the header gives
    one; ``expected_instances`` is Number of Series Related Instances (0020,1209), where
    the sender states it. ``written`` tells that its file was written now, though there may
    be a record that it was before: what a disk lost or damaged came back. ``accession_key`` is
    that of :func:`accession_key`, where it is known. ``content_digest`` is over the bytes,
    ``value_digest`` over what they say in whatever transfer syntax; empty when an older version
    recorded the image.
    """

    path: Path
    sop_class_uid: Uid
    sop_instance_uid: Uid
    series_uid: Uid
    study_uid: Uid
    patient_key: str
    transfer_syntax_uid: Uid
    content_digest: str
    size: int
    received_at: datetime
    calling_ae: str
    slice_position: float | None = None
    expected_instances: int | None = None
    written: bool = False
    accession_key: str = ""
    value_digest: str = ""

    @property
    def identity(self) -> str:
        """What this image is in a digest of its series: its values, where they are known.

        An older version recorded the bytes alone, and its results keep their UIDs by them.
        """
        return self.value_digest or self.content_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """An immutable snapshot of a complete series.

    Raises:
        ValueError: There is no instance, one belongs to another series, or two share a
            SOP Instance UID.
    """

    series_uid: Uid
    instances: tuple[ReceivedInstance, ...]

    def __post_init__(self) -> None:
        if not self.instances:
            raise ValueError("a series has at least one instance")
        if any(instance.series_uid != self.series_uid for instance in self.instances):
            raise ValueError("an instance belongs to another series")
        if len({instance.sop_instance_uid for instance in self.instances}) < len(self.instances):
            raise ValueError("two instances share a SOP Instance UID")

    @classmethod
    def of(cls, instances: Iterable[ReceivedInstance]) -> Series:
        """Make the snapshot; the order of ``instances`` does not matter."""
        ordered = tuple(sorted(instances, key=lambda instance: instance.sop_instance_uid))
        if not ordered:
            raise ValueError("a series has at least one instance")
        return cls(series_uid=ordered[0].series_uid, instances=ordered)

    @property
    def digest(self) -> str:
        """SHA-256 over the SOP Instance UIDs and contents, independent of arrival order."""
        return digest(
            part
            for instance in sorted(self.instances, key=lambda instance: instance.sop_instance_uid)
            for part in (instance.sop_instance_uid, instance.identity)
        )


def contested_uids(counts: Mapping[Uid, int]) -> str:
    """Say how many images with different content came under one SOP Instance UID.

    ``counts`` holds them by that UID; only one of each counts. Nothing is said of none.
    """
    if not counts:
        return ""
    worst, count = max(counts.items(), key=lambda one: one[1])
    more = f", and likewise {len(counts) - 1} other UIDs" if len(counts) > 1 else ""
    return f"{count} images came under one SOP Instance UID ({worst}){more}; only the last counts"
