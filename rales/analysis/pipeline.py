"""The main job without any network: one complete series in, SEG, SR and pictures out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from chestct.errors import InputUnavailable, OutOfResources
from chestct.evolution import PriorResult, compare
from chestct.findings import Method
from chestct.results import (
    AnalysisKey,
    Extra,
    ModelIdentity,
    ReportOptions,
    ResultReference,
    ResultSet,
    SegKind,
)
from chestct.series import Series
from chestct.uids import digest
from chestct.volume import Volume
from dicom_out.objects.compose import SoftwareIdentity, compose
from dicom_out.objects.compose import warm_up as warm_up_writer
from dicom_out.objects.extras import compose_extras
from inference.loading.eligibility import EligibilityRules
from inference.loading.loader import LoadingPolicy, load
from inference.networks.session import load_models
from inference.ports import ModelSet
from inference.reading.analysis import Analysis, Stage, analyse
from rales.analysis.intact import require_intact
from rales.analysis.priors import circumstances_of, remembered, told
from rales.config.sections import Config
from rales.pictures.overlay import write_montage
from rales.pictures.page import Reading, drawings_of
from rales.pictures.trend import write_trend
from rales.state.results import AnalysisReport

Progress = Callable[[str, float], None]
"""Called with the name of the stage and the part of it that is done, 0 to 1."""


_SPREAD = 1.5
"""Slice thicknesses between two slices from where on every second one may still be to come."""
_NO_PRIORS = "earlier reports could not be looked up in the PACS"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSettings:
    """Everything but the series that an analysis depends on; crosses process boundaries.

    ``threads`` 0 lets ONNX Runtime choose; ``minimum_lesion_ml`` none: what the manifest of
    the lesion model says. Results are written with a SEG of each of ``kinds``, and ``extras``.
    """

    rules: EligibilityRules
    method: Method
    minimum_lesion_ml: float | None
    models_dir: Path | None
    providers: tuple[str, ...]
    threads: int
    station_name: str
    options: ReportOptions = field(default_factory=ReportOptions)
    kinds: tuple[SegKind, ...] = (SegKind.BINARY,)
    extras: tuple[Extra, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the settings that change a result.

        Not over ``kinds`` and ``extras``: an object of one kind is the same whether there is
        another or not.
        """
        deciding = (self.rules, self.method, self.minimum_lesion_ml, self.options)
        return digest(repr(one) for one in deciding)

    def method_with(self, models: ModelSet) -> Method:
        """Return the thresholds that are used, and stated in the report."""
        method = models.method(self.method)
        if self.minimum_lesion_ml is None:
            return method
        return replace(method, minimum_lesion_ml=self.minimum_lesion_ml)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """One series to analyse into ``folder``.

    ``priors_trouble`` says why the archive could not be asked for priors, ``shortfall`` how
    many images are known to be missing; each may be empty. ``keys_in_use`` are those of earlier
    revisions that went out: a result that follows one is no repetition of it.
    """

    series: Series
    settings: AnalysisSettings
    folder: Path
    predecessor: ResultReference | None
    created: datetime
    labelmap_predecessor: ResultReference | None = None
    priors: tuple[PriorResult, ...] = ()
    priors_trouble: str = ""
    shortfall: str = ""
    keys_in_use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFacts:
    """What does the inference: the execution provider and the models."""

    provider: str
    models: tuple[ModelIdentity, ...]


def settings_of(config: Config) -> AnalysisSettings:
    """Return the analysis settings that the configuration file asks for."""
    eligibility = config.eligibility
    return AnalysisSettings(
        rules=EligibilityRules(
            body_parts=eligibility.body_parts,
            allow_missing_body_part=eligibility.allow_missing_body_part,
            series_description_include=eligibility.series_description_include,
            series_description_exclude=eligibility.series_description_exclude,
            kernel_include=eligibility.kernel_include,
            kernel_exclude=eligibility.kernel_exclude,
            maximum_thickness_mm=eligibility.maximum_thickness_mm,
            minimum_slices=eligibility.minimum_slices,
        ),
        method=config.analysis.method(),
        minimum_lesion_ml=config.analysis.minimum_lesion_ml,
        models_dir=config.analysis.models_dir,
        providers=config.analysis.providers,
        threads=config.analysis.threads,
        station_name=config.node.ae_title,
        options=config.analysis.options(),
        kinds=_kinds(config),
        extras=_extras(config),
    )


def _kinds(config: Config) -> tuple[SegKind, ...]:
    """Return the kinds of SEG that are needed: BINARY always, the node's own tools read it."""
    wanted = {destination.segmentation for destination in config.destinations}
    return tuple(kind for kind in SegKind if kind is SegKind.BINARY or kind in wanted)


def _extras(config: Config) -> tuple[Extra, ...]:
    """Return what any destination asks for, or may be sent in place of a SEG."""
    wanted = {extra for one in config.destinations for extra in (*one.extras, *one.fallback)}
    return tuple(extra for extra in Extra if extra in wanted)


@cache
def models_for(models_dir: Path | None, providers: tuple[str, ...], threads: int) -> ModelSet:
    """Load the models once a process."""
    return load_models(models_dir, providers=providers, threads=threads)


def warm_up(settings: AnalysisSettings) -> InferenceFacts:
    """Load what the first series would otherwise wait for, and say what was loaded.

    Raises:
        ModelError: The models cannot be used.
    """
    models = models_for(settings.models_dir, settings.providers, settings.threads)
    warm_up_writer()
    return InferenceFacts(
        provider=models.provider, models=(models.lungs.identity, models.lesions.identity)
    )


def models_digest(models: tuple[ModelIdentity, ...]) -> str:
    """Return the SHA-256 that stands for a set of models."""
    return digest(model.digest for model in models)


def run(
    request: AnalysisRequest, progress: Progress = lambda _stage, _part: None
) -> AnalysisReport:
    """Analyse one series and leave its results in ``request.folder``.

    Raises:
        SeriesRejected: The series cannot or must not be analysed; nothing is written.
        InputUnavailable: A file is not as it was received, or cannot be read now.
        ResultInvalid: A written object did not read back as computed.
        OutOfResources: The results cannot be written.
    """
    settings = request.settings
    models = models_for(settings.models_dir, settings.providers, settings.threads)
    seconds: dict[str, float] = {}
    with _timed(seconds, "load", progress):
        require_intact(request.series)
        volume = load(request.series, LoadingPolicy(rules=settings.rules))
    analysis = analyse(
        volume,
        models,
        settings.method_with(models),
        lambda stage, part: progress(_name(stage), part),
    )
    lacks = (request.shortfall,) if request.shortfall else ()
    trouble = (_NO_PRIORS,) if request.priors_trouble else ()
    if lacks or volume.notes or trouble:
        findings = analysis.findings
        flags = (*lacks, *volume.notes, *findings.quality_flags, *trouble)
        analysis = replace(analysis, findings=replace(findings, quality_flags=flags))
    seconds.update({_name(stage): value for stage, value in analysis.seconds.items()})
    key = AnalysisKey(
        series_uid=request.series.series_uid,
        instances_digest=request.series.digest,
        models_digest=models_digest(analysis.models),
        config_digest=settings.digest,
    ).beside(request.keys_in_use)
    with _input_errors(request.series):
        made = circumstances_of(
            request.series,
            volume,
            models_digest=key.models_digest,
            method=analysis.findings.method,
        )
    evolution = compare(analysis.findings, made, request.priors) if made else None
    with _timed(seconds, "write", progress), _disk_errors():
        request.folder.mkdir(parents=True, exist_ok=True)
        predecessors = {
            SegKind.BINARY: request.predecessor,
            SegKind.LABELMAP: request.labelmap_predecessor,
        }
        software = SoftwareIdentity(
            name="Rales", version=version("rales"), station_name=settings.station_name
        )
        composed = [
            compose(
                series=request.series,
                volume=volume,
                lesion_map=analysis.lesion_map,
                findings=analysis.findings,
                models=analysis.models,
                key=key,
                predecessor=predecessors[kind],
                folder=request.folder,
                created=request.created,
                software=software,
                options=settings.options,
                kind=kind,
                evolution=evolution,
            )
            for kind in settings.kinds
        ]
        extras = compose_extras(
            settings.extras,
            drawings_of(
                Reading(
                    volume=volume,
                    lesion_map=analysis.lesion_map,
                    findings=analysis.findings,
                    measured=analysis.findings.lesions[: settings.options.measured_lesions],
                    models=analysis.models,
                    software=f"{software.name} {software.version}",
                    evolution=evolution,
                    revised=request.predecessor is not None,
                )
            ),
            series=request.series,
            volume=volume,
            lesion_map=analysis.lesion_map,
            models=analysis.models,
            key=key,
            folder=request.folder,
            created=request.created,
            software=software,
        )
        results = ResultSet(
            key=key, objects=(*(item for one in composed for item in one.objects), *extras.objects)
        )
        overlay = request.folder / "overlay.png"
        write_montage(overlay, volume, analysis.lesion_map, analysis.findings)
        if evolution is not None and evolution.is_comparable:
            write_trend(request.folder / "trend.png", evolution)
    report = AnalysisReport(
        results=results,
        findings=analysis.findings,
        seconds=seconds,
        provider=models.provider,
        overlay=overlay,
        circumstances=remembered(made) if made else None,
        evolution=told(evolution) if evolution else None,
        left_out=extras.left_out,
        may_be_part=_why_part(volume, analysis),
        created=request.created,
    )
    _write_findings(request, report, analysis.models)
    return report


def _why_part(volume: Volume, analysis: Analysis) -> str:
    """Return why these may not be all slices of their series yet; empty: they look whole."""
    spacing, thickness = volume.geometry.slice_spacing, volume.thickness_mm
    if thickness is not None and spacing > _SPREAD * thickness:
        return f"slices of {thickness:g} mm lie {spacing:g} mm apart"
    if (analysis.lesion_map.labels[[0, -1]] > 0).any():
        return "lung reaches the first or last slice"
    return ""


def _write_findings(
    request: AnalysisRequest, report: AnalysisReport, models: tuple[ModelIdentity, ...]
) -> None:
    content = {
        "notice": "AI-made, research use only, not verified by a radiologist.",
        "series_uid": request.series.series_uid,
        "study_uid": request.series.instances[0].study_uid,
        "instances": len(request.series.instances),
        "created": request.created.isoformat(timespec="seconds"),
        "software": f"Rales {version('rales')}",
        "models": [asdict(model) for model in models],
        "provider": report.provider,
        "findings": report.findings.to_dict(),
        "evolution": report.evolution,
        "seconds": {stage: round(value, 3) for stage, value in report.seconds.items()},
        "objects": {item.role: item.sop_instance_uid for item in report.results.objects},
    }
    with _disk_errors():
        (request.folder / "findings.json").write_text(
            json.dumps(content, indent=2) + "\n", encoding="utf-8"
        )


def _name(stage: Stage) -> str:
    return str(stage.value)


@contextmanager
def _timed(seconds: dict[str, float], stage: str, progress: Progress) -> Iterator[None]:
    progress(stage, 0.0)
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
    progress(stage, 1.0)


@contextmanager
def _input_errors(series: Series) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputUnavailable.because_of(error, series.instances[0].sop_instance_uid) from error


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OutOfResources(f"the results cannot be written: {reason}") from error
