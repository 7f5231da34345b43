"""Received instances and the series that they form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chestct.uids import Uid, digest


def accession_key(number: bytes) -> str:
    """Return the digest of an encoded Accession Number; empty when the number is empty.

    It finds the images of an order without storing the number.
    """
    return digest((number.hex(),)) if number else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedInstance:
    """One instance that is stored durably at ``path``.

    Attributes:
        patient_key: :func:`chestct.identity.patient_key`; shows that two instances disagree,
            without naming the patient in the state file.
        content_digest: Digest over the bytes of the data set.
        slice_position: Signed distance of the slice along its normal in mm, if the header gives it.
        expected_instances: Number of Series Related Instances (0020,1209), if the sender sets it.
        written: Whether this reception wrote the file. A recorded instance is written again when
            its file was lost or damaged.
        accession_key: :func:`accession_key`, if known.
        value_digest: Digest over the values, independent of the transfer syntax; empty if an older
            version recorded the instance.
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
        """The digest that represents this instance in the digest of its series.

        Without a value digest it is the content digest, so that results of older versions keep
        their UIDs.
        """
        return self.value_digest or self.content_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """An immutable snapshot of a complete series.

    Raises:
        ValueError: The series is empty, an instance belongs to another series, or two instances
            share a SOP Instance UID.
    """

    series_uid: Uid
    instances: tuple[ReceivedInstance, ...]

    def __post_init__(self) -> None:
        if not self.instances:
            raise ValueError("the series has no instance")
        if any(instance.series_uid != self.series_uid for instance in self.instances):
            raise ValueError(f"an instance does not belong to series {self.series_uid}")
        if len({instance.sop_instance_uid for instance in self.instances}) < len(self.instances):
            raise ValueError(f"two instances of series {self.series_uid} share a UID")

    @classmethod
    def of(cls, instances: Iterable[ReceivedInstance]) -> Series:
        """Return the snapshot of ``instances`` in any order."""
        ordered = tuple(sorted(instances, key=lambda instance: instance.sop_instance_uid))
        if not ordered:
            raise ValueError("the series has no instance")
        return cls(series_uid=ordered[0].series_uid, instances=ordered)

    @property
    def digest(self) -> str:
        """SHA-256 over the SOP Instance UIDs and values, independent of the order of arrival."""
        return digest(
            part
            for instance in sorted(self.instances, key=lambda instance: instance.sop_instance_uid)
            for part in (instance.sop_instance_uid, instance.identity)
        )


def contested_uids(counts: Mapping[Uid, int]) -> str:
    """Return a message on SOP Instance UIDs under which several different images arrived.

    ``counts`` maps each such UID to its number of images. The message is empty without any.
    """
    if not counts:
        return ""
    worst, count = max(counts.items(), key=lambda item: item[1])
    others = f" (and so under {len(counts) - 1} other UIDs)" if len(counts) > 1 else ""
    return (
        f"{count} images came under one SOP Instance UID ({worst}){others}; only the last "
        "image of each UID is used"
    )
