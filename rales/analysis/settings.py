"""The settings of an analysis, as the configuration file states them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from chestct.method import Method
from chestct.results import Extra, Profile, ReportOptions
from chestct.uids import digest
from inference.loading.rules import EligibilityRules
from inference.ports import ModelSet
from rales.config.sections import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSettings:
    """Everything that an analysis depends on besides the series; crosses process boundaries.

    Attributes:
        minimum_lesion_ml: None uses the value in the manifest of the lesion model.
        threads: 0 lets ONNX Runtime choose.
        station_name: The AE title of the node.
        profiles: The profiles whose SEGs and SRs are written; OHIF first.
        extras: The objects to write besides SEG and SR.
    """

    rules: EligibilityRules
    method: Method
    minimum_lesion_ml: float | None
    models_dir: Path | None
    providers: tuple[str, ...]
    threads: int
    station_name: str
    options: ReportOptions = field(default_factory=ReportOptions)
    profiles: tuple[Profile, ...] = (Profile.OHIF,)
    extras: tuple[Extra, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the settings that change a result.

        ``profiles`` and ``extras`` are not part of it: they add objects and change none.
        """
        deciding = (self.rules, self.method, self.minimum_lesion_ml, self.options)
        return digest(repr(setting) for setting in deciding)

    def method_with(self, models: ModelSet) -> Method:
        """Return the thresholds to use with ``models``; the report states them."""
        method = models.method(self.method)
        if self.minimum_lesion_ml is None:
            return method
        return replace(method, minimum_lesion_ml=self.minimum_lesion_ml)


def settings_of(config: Config) -> AnalysisSettings:
    """Return the analysis settings of a configuration file."""
    analysis = config.analysis
    return AnalysisSettings(
        rules=config.eligibility,
        method=Method(
            high_opacity_hu=analysis.high_opacity_hu,
            mild_percent=analysis.mild_percent,
            moderate_percent=analysis.moderate_percent,
        ),
        minimum_lesion_ml=analysis.minimum_lesion_ml,
        models_dir=analysis.models_dir,
        providers=analysis.providers,
        threads=analysis.threads,
        station_name=config.node.ae_title,
        options=ReportOptions(
            measured_lesions=analysis.measured_lesions,
            lesion_segments=analysis.lesion_segments,
            page_names_patient=analysis.page_names_patient,
        ),
        profiles=_profiles(config),
        extras=_extras(config),
    )


def _profiles(config: Config) -> tuple[Profile, ...]:
    """Return the profiles of the destinations, and OHIF, whose SR the node itself reads."""
    wanted = {Profile.OHIF} | {section.object_profile for section in config.destinations}
    return tuple(profile for profile in Profile if profile in wanted)


def _extras(config: Config) -> tuple[Extra, ...]:
    """Return the extras that any destination takes, or takes in place of a SEG."""
    wanted = {
        extra
        for destination in config.destinations
        for extra in (*destination.all_extras, *destination.fallback)
    }
    return tuple(extra for extra in Extra if extra in wanted)
