"""The analysed series: the one record that SEG, SR and pictures are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chestct.evolution import Evolution
from chestct.findings import Findings, Lesion
from chestct.results import (
    AnalysisKey,
    ModelIdentity,
    Profile,
    ReportOptions,
    ResultReference,
    SoftwareIdentity,
)
from chestct.series import Series
from chestct.volume import LesionMap, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedSeries:
    """One series with the outcome of its analysis.

    Attributes:
        models: The lung model and the lesion model, in this order.
        software: The software and the node that analysed the series.
        key: Derives the UIDs of the result objects.
        created: Time of the analysis; dates every result object.
        options: What the report details beyond the totals.
        evolution: The change since the prior study; None without a prior study.
        revision: Number of this analysis among those of the series; 2 or more after new images.
        predecessors: The SRs of the previous revision that the new SRs replace, by profile.
    """

    series: Series
    volume: Volume
    lesion_map: LesionMap
    findings: Findings
    models: tuple[ModelIdentity, ...]
    software: SoftwareIdentity
    key: AnalysisKey
    created: datetime
    options: ReportOptions = field(default_factory=ReportOptions)
    evolution: Evolution | None = None
    revision: int = 1
    predecessors: Mapping[Profile, ResultReference] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[Lesion, ...]:
        """The lesions that the SR measures individually, largest first."""
        return self.findings.lesions[: self.options.measured_lesions]

    @property
    def algorithm_parameters(self) -> dict[str, str]:
        """The thresholds of the lesion model, as Algorithm Parameters (TID 4019) state them."""
        method = self.findings.method
        thresholds = {
            "high_opacity_hu": method.high_opacity_hu,
            "density_smoothing_mm": method.density_smoothing_mm,
            "minimum_piece_ml": method.minimum_piece_ml,
            "minimum_lesion_ml": method.minimum_lesion_ml,
            "minimum_lesion_hu": method.minimum_lesion_hu,
            "mild_percent": method.mild_percent,
            "moderate_percent": method.moderate_percent,
            "operating_point": self.findings.presence.operating_point,
        }
        return {name: f"{value:g}" for name, value in thresholds.items() if value is not None}
