"""The measurements of a series: numbers with their unit, method and threshold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from chestct.method import Method, Presence

if TYPE_CHECKING:  # numpy would slow down commands that only print findings
    from chestct.geometry import Vector


class Side(StrEnum):
    """The side of the patient."""

    LEFT = "left"
    RIGHT = "right"


class Outcome(StrEnum):
    """What a result claims; every output states it in the words of :mod:`chestct.verdict`."""

    FOUND = "opacities found"
    NONE_MARKED = "none marked"
    INDETERMINATE = "indeterminate"


class End(StrEnum):
    """An end of the scan; results of earlier versions do not say which."""

    HEAD = "head"
    FEET = "feet"
    EITHER = "head or feet"


class Extent(StrEnum):
    """A range of the percent of both lungs that is opacity; :class:`Method` has the limits.

    The limits are settings without a clinical source: no headline and no report states the range.
    """

    NONE = "none"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


class Zone(StrEnum):
    """A part of a lung by geometry, no lobe: a third of its height, its outer third, the rest."""

    UPPER = "upper"
    MIDDLE = "middle"
    LOWER = "lower"
    PERIPHERAL = "peripheral"
    CENTRAL = "central"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneMeasurement:
    """A zone of a lung; ``involved_percent`` is ``100 * lesion_ml / volume_ml``."""

    zone: Zone
    volume_ml: float
    lesion_ml: float
    involved_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpacityMeasurement:
    """One kind of opacity in one lung or both; ``mean_hu`` is None without such opacity."""

    volume_ml: float
    mean_hu: float | None


NO_OPACITY = OpacityMeasurement(volume_ml=0.0, mean_hu=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LungMeasurement:
    """The measurements of one lung, or of both lungs together.

    Attributes:
        volume_ml: Volume, lesions included.
        lesion_ml: Volume of the lesions.
        involved_percent: ``100 * lesion_ml / volume_ml``.
        high_opacity_percent: Share of consolidation in the *lesion* volume; 0 without lesions.
        lesion_mean_hu: Mean HU of the lesion voxels; None without lesions.
        ground_glass, consolidation: The two kinds of opacity that the lesions consist of.
        zones: The zones of a lung in the order of :class:`Zone`; empty for both lungs together.
            Results of older versions have the first three.
    """

    volume_ml: float
    lesion_ml: float
    involved_percent: float
    high_opacity_percent: float
    lesion_mean_hu: float | None
    ground_glass: OpacityMeasurement = NO_OPACITY
    consolidation: OpacityMeasurement = NO_OPACITY
    zones: tuple[ZoneMeasurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAssessable:
    """A lung without measurements: opaque, collapsed or removed, it has no involvement.

    Attributes:
        aerated_ml: Volume of the lung that holds air.
        needed_ml: Least aerated volume for a lung to be assessed beside the other lung.
    """

    aerated_ml: float
    needed_ml: float

    @property
    def reason(self) -> str:
        """Why the lung is not assessable, for a person."""
        return (
            f"{self.aerated_ml:.0f} ml of it hold air, at least {self.needed_ml:.0f} ml are needed"
        )


Lung = LungMeasurement | NotAssessable


class Coverage(StrEnum):
    """The lungs that the numbers of a result cover."""

    BOTH = "both"
    LEFT = "left"
    RIGHT = "right"

    @property
    def words(self) -> str:
        """The covered lungs, as part of a sentence."""
        return "the lungs" if self is Coverage.BOTH else f"the {self} lung"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diameter:
    """The longest axial diameter of a lesion, and the longest chord perpendicular to it.

    Both axes lie in one connected part of one slice. The short axis runs inside the lesion with its
    whole length.

    Attributes:
        slice_index: Slice of the volume that holds both axes.
        long_axis_mm, short_axis_mm: Lengths.
        long_axis: End points as (row, column) in pixel indices (0 = centre of first pixel).
    """

    slice_index: int
    long_axis_mm: float
    short_axis_mm: float
    long_axis: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One connected lesion (26-neighbourhood) of one lung; number 1 has the largest volume."""

    number: int
    side: Side
    volume_ml: float
    mean_hu: float
    high_opacity_percent: float
    centroid: Vector
    diameter: Diameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All measurements of one series.

    Attributes:
        left, right: The lungs; at least one is assessable.
        total: Both lungs together; None unless both are assessable.
        lesions: The lesions of the assessable lungs, largest first.
        extent: Of the opacity in both lungs together; None without a total.
        ground_glass, consolidation: The two kinds of opacity in the assessable lungs.
        cut: The ends of the scan that the lungs reach, so that part of them may be missing.
        higher_base: The lung that ends so far above the other that its base may hold no air.

    Raises:
        ValueError: The numbers do not match the assessable lungs.
    """

    left: Lung
    right: Lung
    total: LungMeasurement | None
    lesions: tuple[Lesion, ...]
    presence: Presence
    extent: Extent | None
    method: Method
    ground_glass: OpacityMeasurement
    consolidation: OpacityMeasurement
    quality_flags: tuple[str, ...] = ()
    cut: tuple[End, ...] = ()
    higher_base: Side | None = None

    def __post_init__(self) -> None:
        both = self.covers is Coverage.BOTH
        if both != (self.total is not None) or both != (self.extent is not None):
            raise ValueError(
                "findings have a total and a extent exactly if both lungs have numbers"
            )
        if not both and any(Coverage(lesion.side) is not self.covers for lesion in self.lesions):
            raise ValueError("findings have a lesion in the lung that is not assessable")

    @property
    def outcome(self) -> Outcome:
        """What the result claims."""
        if self.lesions:
            return Outcome.FOUND
        return Outcome.INDETERMINATE if self.indeterminate_reasons else Outcome.NONE_MARKED

    @property
    def indeterminate_reasons(self) -> tuple[str, ...]:
        """Why a result without lesions is not negative; empty for a result with lesions."""
        if self.lesions:
            return ()
        reasons = []
        if self.presence.positive:
            reasons.append("positive score, nothing outlined")
        if self.missing is not None:
            side = Side.RIGHT if self.covers is Coverage.LEFT else Side.LEFT
            reasons.append(f"{side} lung not assessable")
        if self.cut:
            where = "both ends" if len(self.cut) > 1 else f"the {self.cut[0]} end"
            reasons.append(f"lungs cut at {where}")
        if self.higher_base is not None:
            reasons.append(f"{self.higher_base} base may hold no air")
        return tuple(reasons)

    @property
    def states_opacity(self) -> bool:
        """Whether the amount of opacity in :attr:`covers` is a result, zero included.

        It is none if the result is indeterminate for a reason in the assessable lungs.
        """
        return len(self.indeterminate_reasons) <= (self.missing is not None)

    @property
    def covers(self) -> Coverage:
        """The assessable lungs."""
        return coverage_of(self.left, self.right)

    @property
    def covered(self) -> LungMeasurement:
        """The measurements of the lungs in :attr:`covers` together."""
        if self.total is not None:
            return self.total
        return next(lung for lung in (self.left, self.right) if isinstance(lung, LungMeasurement))

    @property
    def missing(self) -> NotAssessable | None:
        """The lung that is not assessable; None when both are assessable."""
        return next(
            (lung for lung in (self.left, self.right) if isinstance(lung, NotAssessable)), None
        )


def coverage_of(left: Lung, right: Lung) -> Coverage:
    """Return which of two lungs are assessable.

    Raises:
        ValueError: Neither lung is assessable.
    """
    measured = [isinstance(lung, LungMeasurement) for lung in (left, right)]
    if not any(measured):
        raise ValueError("findings need at least one assessable lung")
    if all(measured):
        return Coverage.BOTH
    return Coverage.LEFT if measured[0] else Coverage.RIGHT
