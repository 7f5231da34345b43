"""What an analysis leaves behind: whose model made it, and the objects to deliver."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from chestct.uids import Uid, derive_uid, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """One model that took part, as its manifest names it."""

    name: str
    version: str
    digest: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareIdentity:
    """The software and the node that ran it; ``station_name`` is the node's AE title."""

    name: str
    version: str
    station_name: str

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisKey:
    """What makes an analysis the same analysis: a repeat gives the same UIDs.

    Attributes:
        series_uid: Of the source series.
        instances_digest: :attr:`chestct.series.Series.digest`.
        models_digest: Over the digests of all models.
        config_digest: Over every setting that changes a result.
        edition: Grows where an earlier result of the same went out that a new one follows: of
            images that were replaced, and then replaced by the first ones again.
    """

    series_uid: Uid
    instances_digest: str
    models_digest: str
    config_digest: str
    edition: int = 1

    @property
    def value(self) -> str:
        """64 hexadecimal digits that stand for the key."""
        return digest(self._parts)

    def uid(self, role: str) -> Uid:
        """Return the derived UID of one ``role`` (``seg``, ``sr-series``, ...)."""
        return derive_uid(*self._parts, role)

    def beside(self, in_use: Collection[str]) -> AnalysisKey:
        """Return this key in the first edition whose value is none of ``in_use``."""
        key = self
        while key.value in in_use:
            key = replace(key, edition=key.edition + 1)
        return key

    @property
    def _parts(self) -> tuple[str, ...]:
        parts = (self.series_uid, self.instances_digest, self.models_digest, self.config_digest)
        return parts if self.edition == 1 else (*parts, f"edition {self.edition}")


class SegKind(StrEnum):
    """How a SEG holds its segments; each kind is an object of its own."""

    BINARY = "binary"
    """A frame per segment and slice: what viewers and archives take today."""
    LABELMAP = "labelmap"
    """One frame per slice that holds segment numbers (Supplement 243)."""

    def role(self, role: str) -> str:
        """Return the role of an object that is, or references, a SEG of this kind."""
        return role if self is SegKind.BINARY else f"{role}-{self}"


class Extra(StrEnum):
    """What else can be made for viewers that show no SEG; the value is its role."""

    SECONDARY_CAPTURE = "secondary-capture"
    """One page in colour: pictures, the table, the change."""
    COLOUR_OVERLAY = "colour-overlay"
    """Every slice of the lungs with the outlines drawn in (multi-frame, true colour)."""
    PRESENTATION_STATE = "presentation-state"
    """The outlines of the lesions as graphics on the source images (GSPS)."""
    ENCAPSULATED_PDF = "encapsulated-pdf"
    """The page as a PDF."""
    KEY_OBJECTS = "key-objects"
    """The source images that show most lesion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What the results tell beyond the lungs and all lesions together.

    Attributes:
        measured_lesions: So many of the largest lesions are measured one by one in the SR.
        lesion_segments: Whether those are segments too, in a SEG of their own.
    """

    measured_lesions: int = 5
    lesion_segments: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReference:
    """An SR that this result supersedes (Predecessor Documents Sequence, PS3.3 C.17.2)."""

    study_uid: Uid
    series_uid: Uid
    sop_class_uid: Uid
    sop_instance_uid: Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """One encoded object at ``path``, ready to be delivered.

    ``digest`` (SHA-256, hexadecimal) and ``size`` are those of the file as it was verified;
    an object of a version that kept none has an empty digest.
    """

    role: str
    path: Path
    sop_class_uid: Uid
    sop_instance_uid: Uid
    series_uid: Uid
    study_uid: Uid
    digest: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSet:
    """The objects of one analysis, each SEG before the SR that references it.

    Roles: ``seg``, ``seg-lesions`` and ``sr``; ``seg-labelmap`` and ``sr-labelmap`` say the same
    with a SEG of another kind, for the destinations that take that one. Behind them whatever
    :class:`Extra` was asked for.
    """

    key: AnalysisKey
    objects: tuple[ResultObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What a destination says of one transaction.

    ``failed`` maps SOP Instance UIDs to Failure Reasons (0008,1197).
    """

    transaction_uid: Uid
    committed: frozenset[Uid]
    failed: Mapping[Uid, int]
