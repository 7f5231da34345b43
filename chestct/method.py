"""How a result was measured: the thresholds, and the decision on presence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The thresholds behind the numbers; the SR states them.

    Attributes:
        high_opacity_hu: Smoothed opacity at or above this HU is consolidation (high opacity),
            below it ground-glass.
        density_smoothing_mm: Standard deviation of the filter that smooths the opacities for
            this decision.
        minimum_piece_ml: A smaller piece of either kind takes the kind around it.
        minimum_lesion_ml: A smaller connected lesion was dropped.
        minimum_lesion_hu: A voxel that is less dense than this, smoothed over a millimetre or two,
            is aerated lung and no lesion; None: the density was not used.
        mild_percent: Less involvement than this is :attr:`Extent.MILD`.
        moderate_percent: Less involvement than this is :attr:`Extent.MODERATE`.
    """

    high_opacity_hu: float = -300.0
    density_smoothing_mm: float = 1.5
    minimum_piece_ml: float = 0.25
    minimum_lesion_ml: float = 0.5
    minimum_lesion_hu: float | None = None
    mild_percent: float = 5.0
    moderate_percent: float = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The decision whether the lungs have any lesion; the score is 0 to 1."""

    score: float
    operating_point: float

    @property
    def positive(self) -> bool:
        """Whether the score reaches the operating point."""
        return self.score >= self.operating_point
