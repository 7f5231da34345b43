"""Results of made-up series, from which the statement reads what the writers write.

The series differ in everything that a source decides, the analyses in everything that the
configuration, the models and the clock decide: what is the same in all results is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom.dataset import Dataset

from chestct.evolution import Circumstances, Evolution, PriorResult, compare
from chestct.findings import Findings, Method, NotAssessable, Presence, Severity
from chestct.results import (
    AnalysisKey,
    Extra,
    ModelIdentity,
    ReportOptions,
    ResultObject,
    ResultReference,
    SegKind,
)
from chestct.series import Series
from chestct.uids import Uid, derive_uid, digest
from chestct.volume import LesionMap, Volume
from dicom_out.objects.compose import compose
from dicom_out.objects.extras import compose_extras
from dicom_out.objects.identity import SoftwareIdentity
from inference.loading.loader import LoadingPolicy, load
from inference.reading.quantify import measure
from inference.reading.sides import Missing
from rales.cli.scanning import scan
from rales.conformance.series import PLANS, Plan, labels_of
from rales.pictures.page import Reading, drawings_of

_COMPREHENSIVE_3D_SR = Uid("1.2.840.10008.5.1.4.1.1.88.34")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series and what its analysis would have sent.

    Attributes:
        sources: The headers of the series.
        results: Every object of every kind, as it reads back.
        configured: Values that the configuration file decides.
        stated: Values that the manifests of the models decide.
    """

    sources: tuple[Dataset, ...]
    results: tuple[Dataset, ...]
    configured: frozenset[str]
    stated: frozenset[str]


def make_samples() -> tuple[Sample, ...]:
    """Return samples of full headers and of one that lacks a lot.

    One has no lesions, and one has them not in the only lung that is assessable.

    The objects are the real writers' and the series are really read; only the label map is
    the phantom's own truth rather than a network's.
    """
    with TemporaryDirectory(prefix="rales-") as folder:
        return tuple(_sample(plan, Path(folder) / str(plan.number)) for plan in PLANS)


def _sample(plan: Plan, folder: Path) -> Sample:
    thorax = plan.thorax()
    files = plan.write(thorax, folder / "in")
    series = scan(files).series[0]
    volume = load(series, LoadingPolicy())
    analysis = _Analysis(
        plan=plan,
        series=series,
        volume=volume,
        lesion_map=LesionMap(labels=labels_of(thorax, plan.missing), geometry=volume.geometry),
        models=_models(plan.number),
        software=SoftwareIdentity(
            name="Rales", version=f"0.0.{plan.number}", station_name=f"NODE{plan.number}"
        ),
    )
    written = [*(one for kind in SegKind for one in analysis.results(kind, folder / kind))]
    written += analysis.extras(folder / "extras")
    return Sample(
        sources=tuple(pydicom.dcmread(path, stop_before_pixels=True) for path in files),
        results=tuple(pydicom.dcmread(item.path) for item in written),
        configured=frozenset({analysis.software.station_name}),
        stated=frozenset(text for one in analysis.models for text in (one.name, one.version)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Analysis:
    """What an analysis would have said, and the writers with it."""

    plan: Plan
    series: Series
    volume: Volume
    lesion_map: LesionMap
    models: tuple[ModelIdentity, ModelIdentity]
    software: SoftwareIdentity

    @property
    def key(self) -> AnalysisKey:
        return AnalysisKey(
            series_uid=self.series.series_uid,
            instances_digest=self.series.digest,
            models_digest=digest(model.digest for model in self.models),
            config_digest=str(self.plan.number),
        )

    @property
    def created(self) -> datetime:
        return datetime(2026, 2, self.plan.number, 4, 5, self.plan.number, tzinfo=UTC)

    def findings(self, kind: SegKind) -> Findings:
        """Return the measurements, with cuts by which every severity comes up somewhere."""
        number, has_lesions = self.plan.number, self.plan.has_lesions
        method = Method(high_opacity_hu=-300.0 - number, minimum_lesion_ml=0.1 * number)
        if kind is SegKind.LABELMAP:
            method = replace(method, mild_percent=0.01, moderate_percent=0.02)
        elif self.plan.has_history:
            method = replace(method, mild_percent=90.0, moderate_percent=95.0)
        presence = Presence(score=0.9 if has_lesions else 0.1, operating_point=0.5)
        missing = None
        if self.plan.missing is not None:
            lung = NotAssessable(aerated_ml=12.0, needed_ml=345.0)
            missing = Missing(side=self.plan.missing, lung=lung, other_ml=1380.0)
        return measure(self.volume, self.lesion_map, presence, method, missing=missing)

    def results(self, kind: SegKind, folder: Path) -> tuple[ResultObject, ...]:
        """Write SEG and SR."""
        folder.mkdir()
        findings = self.findings(kind)
        return compose(
            series=self.series,
            volume=self.volume,
            lesion_map=self.lesion_map,
            findings=findings,
            models=self.models,
            key=self.key,
            predecessor=_reference("predecessor") if self.plan.has_history else None,
            folder=folder,
            created=self.created,
            software=self.software,
            options=ReportOptions(measured_lesions=2, lesion_segments=True),
            kind=kind,
            evolution=_evolution(findings) if self.plan.has_history else None,
        ).objects

    def extras(self, folder: Path) -> tuple[ResultObject, ...]:
        """Write everything that a destination may ask for beside them."""
        folder.mkdir()
        findings = self.findings(SegKind.BINARY)
        reading = Reading(
            volume=self.volume,
            lesion_map=self.lesion_map,
            findings=findings,
            measured=findings.lesions[:2],
            models=self.models,
            software=f"{self.software.name} {self.software.version}",
            evolution=None,
        )
        return compose_extras(
            tuple(Extra),
            drawings_of(reading),
            series=self.series,
            volume=self.volume,
            lesion_map=self.lesion_map,
            models=self.models,
            key=self.key,
            folder=folder,
            created=self.created,
            software=self.software,
        ).objects


def _models(number: int) -> tuple[ModelIdentity, ModelIdentity]:
    lungs, lesions = (
        ModelIdentity(
            name=f"{name}-{number}",
            version=f"{number}.{index}",
            digest=digest((name, str(number))),
            licence="Apache-2.0",
        )
        for index, name in enumerate(("lungs", "lesions"))
    )
    return lungs, lesions


def _reference(role: str) -> ResultReference:
    return ResultReference(
        study_uid=derive_uid(role, "study"),
        series_uid=derive_uid(role, "series"),
        sop_class_uid=_COMPREHENSIVE_3D_SR,
        sop_instance_uid=derive_uid(role, "instance"),
    )


def _evolution(findings: Findings) -> Evolution | None:
    now = datetime(2026, 2, 3, 4, 5)  # noqa: DTZ001 - a scanner's local time
    present = Circumstances(
        study_uid=derive_uid("present"),
        acquired=now,
        has_time=True,
        patient="p",
        birth_date="",
        sex="",
        models="m",
        settings="s",
        kernel="",
        slice_spacing_mm=4.4,
    )
    earlier = replace(
        present, study_uid=derive_uid("prior", "study"), acquired=now - timedelta(days=14)
    )
    prior = PriorResult(
        circumstances=earlier,
        report=_reference("prior"),
        lesion_ml=100.0,
        involved_percent=10.0,
        severity=Severity.MODERATE,
    )
    return compare(findings, present, [prior])


def by_class(samples: Sequence[Sample]) -> dict[str, list[tuple[Dataset, ...]]]:
    """Return the results of each SOP class, a tuple per sample."""
    classes = dict.fromkeys(str(one.SOPClassUID) for sample in samples for one in sample.results)
    return {
        uid: [tuple(one for one in sample.results if one.SOPClassUID == uid) for sample in samples]
        for uid in classes
    }
