"""The records of the evaluation.

Everything that the report says is computed from these; ``report.json`` holds them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from training.metrics import Distances, LesionCount, Overlap
from training.robustness.records import RobustnessRecord

UNTOUCHED = "untouched"
"""The kind of a scan without painted opacities."""


class Source(StrEnum):
    """Where the truth of a case comes from."""

    PHANTOM = "phantom"
    PLAIN = "plain chest"
    HELD_OUT = "synthetic lesions, chest kept aside"
    SEEN = "synthetic lesions, chest also trained on"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRecord:
    """One 8-bit slice; areas in pixels of the network's grid.

    Attributes:
        area_error: Marked less true lesion area, in points of percent of the true lung area.
        lesion_dice: None where there is no true lesion.
    """

    index: int
    volume: int
    patient: int
    lung_area: int
    true_lung_area: int
    lesion_area: int
    true_lesion_area: int
    area_error: float
    lesion_dice: float | None
    lesions: LesionCount


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecord:
    """All slices of one patient; distances in pixels of the network's grid.

    Attributes:
        involved_percent: Marked lesion of marked lung, over the patient's slices.
        unmatched: Slices in which either the truth or the network has a lesion, but not both:
            they have no lesion distance.
    """

    patient: int
    slices: int
    lung: Overlap
    lung_distances: Distances | None
    lesion: Overlap
    lesion_distances: Distances | None
    lesions: LesionCount
    involved_percent: float
    true_involved_percent: float
    unmatched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRecord:
    """The scores of a patient's slices, read once or mirrored too.

    ``seconds`` are wall-clock seconds of both networks for all slices of all patients.
    """

    mirrored: bool
    patient: int
    lung_dice: float
    lesion_dice: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """One scan with exact truth through the live path.

    Attributes:
        refused: Why the analysis refused the scan; its numbers are then those of no result.
        distances: Of the lesions, mm; None where truth or result has none.
        lesions: Connected in 3D.
    """

    name: str
    source: Source
    has_lesions: bool
    positive: bool
    score: float
    operating_point: float
    lung_dice: float
    lesion: Overlap
    distances: Distances | None
    lesions: LesionCount
    lesion_ml: float
    true_lesion_ml: float
    involved_percent: float
    true_involved_percent: float
    seconds: float
    refused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRecord:
    """A real chest with labels through the live path; voxels of unknown label are left out.

    Attributes:
        part: Of the split: ``train``, ``selection`` or ``test``.
        normal: The chest has no lesion.
        call: See :class:`training.readings.reading.Call`.
        reason: Why the chest was refused; its numbers are then those of no result.
        missed_lung_ml, extra_lung_ml: Lung of the label that was not found, and the reverse.
        outside_body_ml: Lung that was found outside the body: any is a leak.
        lesion_ml: Everything marked, where the label is unknown too.
        unknown_ml: Where nobody can tell whether there is a lesion.
        false_ml: Marked where the label has no lesion.
        missed_ml: Lesion of the label that is not marked.
        lesion_dice: None where the label has no lesion.
    """

    name: str
    part: str
    normal: bool
    call: str
    reason: str | None
    score: float | None
    right_lung_dice: float
    left_lung_dice: float
    true_lung_ml: float
    missed_lung_ml: float
    extra_lung_ml: float
    outside_body_ml: float
    lesion_ml: float
    true_lesion_ml: float
    unknown_ml: float
    false_ml: float
    missed_ml: float
    lesion_dice: float | None
    involved_percent: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintedRecord:
    """A scan of a real chest without lesions, with opacities of one kind painted in.

    Attributes:
        part: Of the split: ``selection`` or ``test``.
        kind: See :class:`training.scenes.Scene`, or :data:`UNTOUCHED`.
        call: See :class:`training.readings.reading.Call`.
        reason: Why the scan was refused; its numbers are then those of no result.
        certain_ml: Volume that was marked with certainty: the presence rule compares it with
            ``rule_ml``.
        marked_ml: Everything marked as lesion.
        marked_share: Part of the opacities that is marked; None for an untouched scan.
        false_ml: Marked where nothing was painted and the label of the chest has no lesion.
        lesion_dice: None for an untouched scan, and where a lung is not assessable.
    """

    chest: str
    part: str
    kind: str
    seed: int
    call: str
    reason: str | None
    painted_ml: float
    certain_ml: float
    rule_ml: float
    marked_ml: float
    marked_share: float | None
    false_ml: float
    lesion_dice: float | None
    involved_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndRecord:
    """The scores of a case when a single step before the networks is changed.

    Networks alone, on some slices with lesions; lesions count inside the true lungs.
    """

    change: str
    case: str
    source: Source
    lesion_dice: float
    lung_dice: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRecord:
    """The result of the live path on a real series as it is stored.

    Attributes:
        call: See :class:`training.readings.reading.Call`.
        reason: Why the series was refused; its numbers are then those of no result.
        outside_body_ml: Lung that was marked outside the body: any is a leak.
    """

    name: str
    slices: int
    slice_spacing_mm: float
    call: str
    reason: str | None
    score: float | None
    lung_ml: float
    lesion_ml: float
    involved_percent: float
    lesions: int
    outside_body_ml: float
    quality_flags: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleRecord:
    """A single slice without truth: the networks alone, without the cleaning of series."""

    name: str
    patient: str
    score: float
    lung_cm2: float
    lesion_cm2: float
    involved_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A network that was measured."""

    task: str
    name: str
    version: str
    sha256: str
    megabytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """How the report came about; ``slices_sha256`` is of the slices file.

    ``seconds`` are wall-clock seconds by part of the report.
    """

    date: str
    command: str
    versions: dict[str, str]
    cores: int
    models: tuple[ModelRecord, ...]
    slices_part: str
    slices_sha256: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that was measured; ``robustness`` is None where nobody measured it."""

    provenance: RunRecord
    patients: tuple[PatientRecord, ...]
    slices: tuple[SliceRecord, ...]
    mirror: tuple[MirrorRecord, ...]
    labelled: tuple[LabelledRecord, ...]
    painted: tuple[PaintedRecord, ...]
    cases: tuple[CaseRecord, ...]
    front_end: tuple[FrontEndRecord, ...]
    series: tuple[SeriesRecord, ...]
    singles: tuple[SingleRecord, ...]
    robustness: RobustnessRecord | None = None
