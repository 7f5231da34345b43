"""The results of an analysis: the models and software behind them, and the objects to deliver."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from chestct.uids import Uid, derive_uid, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """One model, as its manifest describes it."""

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
    """Identifies an analysis: a repeat of the same analysis derives the same UIDs.

    Attributes:
        series_uid: Series Instance UID of the source.
        instances_digest: :attr:`chestct.series.Series.digest`.
        models_digest: Digest over all models.
        config_digest: Digest over every setting that changes a result.
        edition: 2 or more when an earlier revision sent results with the same key: its images
            were replaced, and then replaced by the first images again.
    """

    series_uid: Uid
    instances_digest: str
    models_digest: str
    config_digest: str
    edition: int = 1

    @property
    def value(self) -> str:
        """The key as 64 hexadecimal digits."""
        return digest(self._parts)

    def uid(self, role: str) -> Uid:
        """Return the derived UID of a ``role`` (``seg``, ``sr-series``, ...)."""
        return derive_uid(*self._parts, role)

    def beside(self, in_use: Collection[str]) -> AnalysisKey:
        """Return this key in the first edition whose value is not in ``in_use``."""
        key = self
        while key.value in in_use:
            key = replace(key, edition=key.edition + 1)
        return key

    @property
    def _parts(self) -> tuple[str, ...]:
        parts = (self.series_uid, self.instances_digest, self.models_digest, self.config_digest)
        return parts if self.edition == 1 else (*parts, f"edition {self.edition}")


class Profile(StrEnum):
    """A set of SEGs and an SR that suit one kind of viewer.

    An object that two profiles share is one object. An object that differs has a role, and
    therefore UIDs, of its own.
    """

    OHIF = "ohif"
    """A SEG with a frame per segment and slice, and an SR with outlines. Always written."""
    LABELMAP = "labelmap"
    """As OHIF, with a frame of segment numbers per slice in the SEG (Supplement 243)."""
    SLICER = "slicer"
    """The SEG of OHIF, and an SR with one group for each segment (TID 1411)."""
    WEASIS = "weasis"
    """As OHIF, but a SEG with too many frames is split."""
    PLAIN = "plain"
    """An SR with outlines, without a SEG."""

    def role(self, role: str) -> str:
        """Return the role of an object that this profile does not share with OHIF."""
        return role if self is Profile.OHIF else f"{role}-{self}"

    def owns(self, role: str) -> bool:
        """Return whether an object of ``role`` is of this profile alone."""
        return self is not Profile.OHIF and role.endswith(f"-{self}")


class Extra(StrEnum):
    """An additional object for viewers that do not show SEGs; the value is its role."""

    SECONDARY_CAPTURE = "secondary-capture"
    """A page in colour with pictures, table and change."""
    COLOUR_OVERLAY = "colour-overlay"
    """Every slice of the lungs with outlines (multi-frame, true colour)."""
    PRESENTATION_STATE = "presentation-state"
    """The outlines of the lesions as graphics on the source images (GSPS)."""
    ENCAPSULATED_PDF = "encapsulated-pdf"
    """The page as a PDF."""
    KEY_OBJECTS = "key-objects"
    """References to the source images that show most lesion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What the results state beyond the totals of lungs and lesions.

    Attributes:
        measured_lesions: How many of the largest lesions the SR measures individually.
        lesion_segments: Whether a second SEG holds those lesions as segments.
        page_names_patient: Whether the page (Secondary Capture, PDF) names the patient.
    """

    measured_lesions: int = 5
    lesion_segments: bool = False
    page_names_patient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReference:
    """A reference to an SR of an earlier result."""

    study_uid: Uid
    series_uid: Uid
    sop_class_uid: Uid
    sop_instance_uid: Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """One result file at ``path``, ready for delivery.

    ``digest`` (SHA-256, hexadecimal) and ``size`` are those of the file when it was verified. The
    digest is empty in the state of versions that did not record it.
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

    Roles: ``seg``, ``seg-lesions`` and ``sr``; the objects of other profiles, as
    :meth:`Profile.role` names them (``sr-slicer``; ``seg-1-weasis`` for the first part of a split
    SEG); then the extras.
    """

    key: AnalysisKey
    objects: tuple[ResultObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """The answer of a destination to one storage commitment request.

    ``failed`` maps SOP Instance UIDs to Failure Reasons (0008,1197).
    """

    transaction_uid: Uid
    committed: frozenset[Uid]
    failed: Mapping[Uid, int]
