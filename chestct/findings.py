"""What was measured on a label map: numbers with their unit, method and threshold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from chestct.geometry import Vector


class Side(StrEnum):
    """The side of the patient."""

    LEFT = "left"
    RIGHT = "right"


class Severity(StrEnum):
    """Extent category by percent of lung involved; the cuts are in :class:`Method`."""

    NONE = "none"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The thresholds behind the numbers; they travel into the report.

    Attributes:
        high_opacity_hu: Lesion voxels at or above this HU count as high opacity
            (consolidation), those below as ground-glass.
        minimum_lesion_ml: A connected lesion smaller than this was dropped.
        minimum_lesion_hu: A voxel that is, smoothed over a millimetre or two, less dense
            than this is aerated lung and was no lesion; None: density was not asked.
        mild_percent: From this percent involvement on (exclusive of none) it is moderate.
        moderate_percent: From this percent involvement on it is severe.
    """

    high_opacity_hu: float = -300.0
    minimum_lesion_ml: float = 0.1
    minimum_lesion_hu: float | None = None
    mild_percent: float = 5.0
    moderate_percent: float = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LungMeasurement:
    """One lung or both.

    Attributes:
        volume_ml: Lesions included.
        lesion_ml: Volume of lesion inside.
        involved_percent: ``100 * lesion_ml / volume_ml``.
        high_opacity_percent: Share of the *lesion* volume at or above
            :attr:`Method.high_opacity_hu`; 0 without lesion.
        lesion_mean_hu: Mean HU of lesion voxels; None without lesion.
    """

    volume_ml: float
    lesion_ml: float
    involved_percent: float
    high_opacity_percent: float
    lesion_mean_hu: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpacityMeasurement:
    """One kind of opacity in both lungs; ``mean_hu`` is None where there is none of it."""

    volume_ml: float
    mean_hu: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diameter:
    """The longest axial diameter of a lesion and the longest one perpendicular to it.

    Attributes:
        slice_index: Of the volume, in its slice order.
        long_axis_mm, short_axis_mm: Lengths.
        long_axis: End points as (row, column) in pixel indices (0 = centre of first pixel).
    """

    slice_index: int
    long_axis_mm: float
    short_axis_mm: float
    long_axis: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One connected lesion (26-neighbourhood); ``number`` 1 is the largest by volume."""

    number: int
    side: Side
    volume_ml: float
    mean_hu: float
    high_opacity_percent: float
    centroid: Vector
    diameter: Diameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The decision of whether there is a lesion at all (score in 0..1)."""

    score: float
    operating_point: float

    @property
    def positive(self) -> bool:
        """Whether the score reaches the operating point."""
        return self.score >= self.operating_point


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that the report says about one series.

    Attributes:
        ground_glass, consolidation: Lesion voxels below :attr:`Method.high_opacity_hu`, and
            those at or above it.
    """

    left: LungMeasurement
    right: LungMeasurement
    total: LungMeasurement
    lesions: tuple[Lesion, ...]
    presence: Presence
    severity: Severity
    method: Method
    ground_glass: OpacityMeasurement
    consolidation: OpacityMeasurement
    quality_flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = asdict(self)
        plain["presence"]["positive"] = self.presence.positive
        return plain
