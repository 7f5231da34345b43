"""What was measured on a label map: numbers with their unit, method and threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads the thresholds without numpy
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
class NotAssessable:
    """A lung of which nothing is stated: white, collapsed or gone, it has no percent.

    Attributes:
        aerated_ml: What of it holds air.
        needed_ml: The least for a lung to be assessed beside its partner.
    """

    aerated_ml: float
    needed_ml: float

    @property
    def reason(self) -> str:
        """Why, for a person."""
        return (
            f"{self.aerated_ml:.0f} ml of it hold air, at least {self.needed_ml:.0f} ml are needed"
        )


Lung = LungMeasurement | NotAssessable


class Coverage(StrEnum):
    """Which lungs the numbers of a result speak of."""

    BOTH = "both"
    LEFT = "left"
    RIGHT = "right"

    @property
    def words(self) -> str:
        """The same in a sentence."""
        return "the lungs" if self is Coverage.BOTH else f"the {self} lung"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpacityMeasurement:
    """One kind of opacity in the assessed lungs; ``mean_hu`` is None where there is none of it."""

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
        left, right: At least one is measured.
        total: Both lungs together; None unless both are measured, since one does not speak for
            both.
        lesions: Of the assessed lungs, as everything that follows.
        severity: Of both lungs together; None where there is no total.
        ground_glass, consolidation: Lesion voxels below :attr:`Method.high_opacity_hu`, and
            those at or above it.

    Raises:
        ValueError: Numbers of lungs that are not assessable, or none of one that is.
    """

    left: Lung
    right: Lung
    total: LungMeasurement | None
    lesions: tuple[Lesion, ...]
    presence: Presence
    severity: Severity | None
    method: Method
    ground_glass: OpacityMeasurement
    consolidation: OpacityMeasurement
    quality_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = self.covers is Coverage.BOTH
        if whole != (self.total is not None) or whole != (self.severity is not None):
            raise ValueError("a total and a severity are stated of both lungs, and only of both")
        if any(Coverage(one.side) is not self.covers for one in self.lesions) and not whole:
            raise ValueError("a lesion in a lung that is not assessable")

    @property
    def covers(self) -> Coverage:
        """Which lungs the numbers speak of."""
        return coverage_of(self.left, self.right)

    @property
    def covered(self) -> LungMeasurement:
        """What was measured of the lungs that :attr:`covers` names, and of no others."""
        if self.total is not None:
            return self.total
        return next(one for one in (self.left, self.right) if isinstance(one, LungMeasurement))

    @property
    def missing(self) -> NotAssessable | None:
        """The lung that is not assessable; None: there is none."""
        return next(
            (one for one in (self.left, self.right) if isinstance(one, NotAssessable)), None
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = asdict(self)
        plain["presence"]["positive"] = self.presence.positive
        plain["covers"] = str(self.covers)
        for side in (Side.LEFT, Side.RIGHT):
            plain[side] = lung_to_dict(self.left if side is Side.LEFT else self.right)
        return plain


def coverage_of(left: Lung, right: Lung) -> Coverage:
    """Return which of two lungs are measured.

    Raises:
        ValueError: Neither is.
    """
    measured = [isinstance(one, LungMeasurement) for one in (left, right)]
    if not any(measured):
        raise ValueError("findings of no lung at all")
    if all(measured):
        return Coverage.BOTH
    return Coverage.LEFT if measured[0] else Coverage.RIGHT


def lung_to_dict(lung: Lung) -> dict[str, Any]:
    """Return plain JSON types; ``not_assessable`` says why where there are no numbers."""
    plain = asdict(lung)
    if isinstance(lung, NotAssessable):
        plain["not_assessable"] = lung.reason
    return plain


def lung_from_dict(plain: Mapping[str, Any]) -> Lung:
    """Return what :func:`lung_to_dict` was given.

    Raises:
        TypeError: It is something else.
    """
    if "not_assessable" in plain:
        return NotAssessable(aerated_ml=plain["aerated_ml"], needed_ml=plain["needed_ml"])
    return LungMeasurement(**plain)
