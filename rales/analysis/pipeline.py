"""The analysis of one complete series: images in; SEG, SR and pictures out; no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from chestct.analysed import AnalysedSeries
from chestct.evolution import AcquisitionContext, PriorResult, compare
from chestct.findings import End
from chestct.results import (
    AnalysisKey,
    ModelIdentity,
    Profile,
    ResultReference,
    SoftwareIdentity,
)
from chestct.series import Series
from chestct.uids import digest
from chestct.volume import LesionMap, Volume
from dicom_out.objects.compose import warm_up as warm_up_writer
from dicom_out.objects.patient_study import header_note
from dicom_out.objects.sources import read_sources
from inference.loading.loader import LoadingPolicy, load
from inference.loading.read_ahead import ReadAhead
from inference.networks.session import load_models
from inference.ports import ModelSet
from inference.reading.analysis import Analysis, analyse
from rales.analysis.intact import require_intact
from rales.analysis.priors import context_to_dict, evolution_to_dict, read_context
from rales.analysis.settings import AnalysisSettings
from rales.analysis.write import write_findings, write_results
from rales.state.results import AnalysisReport

Progress = Callable[[str, float], None]
"""Called with the name of a stage and its completed part, 0 to 1."""

_SPREAD = 1.5
"""Slice spacing over slice thickness from which on every second slice may be missing."""
_NO_PRIORS = "earlier reports could not be looked up in the PACS"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """One series to analyse into ``folder``.

    Attributes:
        created: Time of the analysis; dates every result object.
        revision: :attr:`chestct.analysed.AnalysedSeries.revision`.
        predecessors: The SRs of the previous revision that the new SRs replace, by profile.
        priors: Earlier results of the patient.
        priors_trouble: Why the archive was not asked for priors; empty when it was.
        shortfall: How many images are known to be missing; empty when none are.
        keys_in_use: Keys of earlier revisions whose results went out. A result that follows such a
            revision gets UIDs of its own.
    """

    series: Series
    settings: AnalysisSettings
    folder: Path
    created: datetime
    revision: int = 1
    predecessors: Mapping[Profile, ResultReference] = field(default_factory=dict)
    priors: tuple[PriorResult, ...] = ()
    priors_trouble: str = ""
    shortfall: str = ""
    keys_in_use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFacts:
    """The execution provider and the models of the inference.

    Attributes:
        refused: The preferred providers that are not used, each with the reason.
        self_test: The outcome of each network's self-test.
    """

    provider: str
    models: tuple[ModelIdentity, ...]
    refused: tuple[str, ...]
    self_test: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The provider, and why the preferred ones are not used."""
        return "; ".join((self.provider, *self.refused))


@cache
def models_for(models_dir: Path | None, providers: tuple[str, ...], threads: int) -> ModelSet:
    """Load the models, once in a process."""
    return load_models(models_dir, providers=providers, threads=threads)


@cache
def read_ahead() -> ReadAhead:
    """Return the series that this process reads ahead."""
    return ReadAhead()


def warm_up(settings: AnalysisSettings) -> InferenceFacts:
    """Load the models and tables that the first series would otherwise wait for.

    Raises:
        ModelError: The models cannot be used.
    """
    models = models_for(settings.models_dir, settings.providers, settings.threads)
    warm_up_writer()
    return InferenceFacts(
        provider=models.provider,
        models=tuple(network.identity for network in models.networks),
        refused=models.refused,
        self_test=models.self_test,
    )


def models_digest(models: tuple[ModelIdentity, ...]) -> str:
    """Return the SHA-256 that identifies a set of models."""
    return digest(model.digest for model in models)


def run(
    request: AnalysisRequest, progress: Progress = lambda _stage, _part: None
) -> AnalysisReport:
    """Analyse one series and write its results into ``request.folder``.

    Raises:
        SeriesRejected: The series cannot or must not be analysed; nothing is written.
        InputUnavailable: A file differs from what was received, or cannot be read now.
        ResultInvalid: A written object does not read back as computed.
        OutOfResources: The results cannot be written.
    """
    settings = request.settings
    models = models_for(settings.models_dir, settings.providers, settings.threads)
    seconds: dict[str, float] = {}
    with _timed(seconds, "load", progress):
        stored = read_ahead().stored(request.series)
        require_intact(stored.images)
        volume = load(request.series, LoadingPolicy(rules=settings.rules), stored=stored)
        del stored  # it holds the compressed pixels
    analysis = analyse(volume, models, settings.method_with(models), progress)
    seconds |= {str(stage): value for stage, value in analysis.seconds.items()}
    sources = read_sources(request.series, volume)
    analysed, context = _with_history(request, volume, analysis, header_note(sources.original))
    with _timed(seconds, "write", progress):
        written = write_results(analysed, sources, settings, request.folder)
    evolution = evolution_to_dict(analysed.evolution) if analysed.evolution else None
    report = AnalysisReport(
        results=written.results,
        findings=analysed.findings,
        seconds=seconds,
        provider=models.provider,
        overlay=written.overlay,
        context=context_to_dict(context) if context else None,
        evolution=evolution,
        left_out=written.left_out,
        may_be_part=_why_part(volume, analysis.lesion_map),
        created=request.created,
    )
    write_findings(analysed, report, request.folder)
    return report


def _with_history(
    request: AnalysisRequest, volume: Volume, analysis: Analysis, header_trouble: str
) -> tuple[AnalysedSeries, AcquisitionContext | None]:
    """Return the analysed series, compared with its priors, and how its images were acquired."""
    findings = analysis.findings
    notes = (request.shortfall, *volume.notes, *findings.quality_flags, header_trouble)
    trouble = _NO_PRIORS if request.priors_trouble else ""
    findings = replace(findings, quality_flags=tuple(filter(None, (*notes, trouble))))
    key = AnalysisKey(
        series_uid=request.series.series_uid,
        instances_digest=request.series.digest,
        models_digest=models_digest(analysis.models),
        config_digest=request.settings.digest,
    ).beside(request.keys_in_use)
    context = read_context(
        request.series, volume, models_digest=key.models_digest, method=findings.method
    )
    analysed = AnalysedSeries(
        series=request.series,
        volume=volume,
        lesion_map=analysis.lesion_map,
        findings=findings,
        models=analysis.models,
        software=SoftwareIdentity(
            name="Rales", version=version("rales"), station_name=request.settings.station_name
        ),
        key=key,
        created=request.created,
        options=request.settings.options,
        evolution=compare(findings, context, request.priors) if context else None,
        revision=request.revision,
        predecessors=request.predecessors,
    )
    return analysed, context


def _why_part(volume: Volume, lesion_map: LesionMap) -> str:
    """Return why the series may still miss slices; empty when it looks complete."""
    spacing, thickness = volume.geometry.slice_spacing, volume.thickness_mm
    if thickness is not None and spacing > _SPREAD * thickness:
        return f"slices of {thickness:g} mm lie {spacing:g} mm apart"
    ends = (End.HEAD, End.FEET) if volume.geometry.slice_cosines[2] < 0 else (End.FEET, End.HEAD)
    for end, plane in zip(ends, lesion_map.labels[[0, -1]], strict=True):
        if plane.any():
            return f"lung reaches the {end} end of the scan"
    return ""


@contextmanager
def _timed(seconds: dict[str, float], stage: str, progress: Progress) -> Iterator[None]:
    progress(stage, 0.0)
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
    progress(stage, 1.0)
