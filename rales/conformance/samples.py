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
from chestct.findings import Findings, Method, Presence, Severity
from chestct.results import AnalysisKey, ModelIdentity, ReportOptions, ResultReference, SegKind
from chestct.uids import Uid, derive_uid, digest
from chestct.volume import LesionMap
from dicom_out.compose import compose
from dicom_out.identity import SoftwareIdentity
from inference.loading import LoadingPolicy, load
from inference.quantify import measure
from rales.conformance.series import PLANS, Plan, labels_of
from rales.inputs import scan

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
    """Return two samples of full headers with lesions, and one that lacks what may be lacking.

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
    lesion_map = LesionMap(labels=labels_of(thorax), geometry=volume.geometry)
    method = Method(high_opacity_hu=-300.0 - plan.number, minimum_lesion_ml=0.1 * plan.number)
    presence = Presence(score=0.9 if plan.has_lesions else 0.1, operating_point=0.5)
    methods = {
        SegKind.BINARY: method,
        SegKind.LABELMAP: replace(method, mild_percent=0.01, moderate_percent=0.02),
    }
    models = _models(plan.number)
    software = SoftwareIdentity(
        name="Rales", version=f"0.0.{plan.number}", station_name=f"NODE{plan.number}"
    )
    key = AnalysisKey(
        series_uid=series.series_uid,
        instances_digest=series.digest,
        models_digest=digest(model.digest for model in models),
        config_digest=str(plan.number),
    )
    history = _reference("predecessor") if plan.has_history else None
    results: list[Dataset] = []
    for kind in SegKind:
        findings = measure(volume, lesion_map, presence, methods[kind])
        out = folder / kind
        out.mkdir()
        composed = compose(
            series=series,
            volume=volume,
            lesion_map=lesion_map,
            findings=findings,
            models=models,
            key=key,
            predecessor=history,
            folder=out,
            created=datetime(2026, 2, plan.number, 4, 5, plan.number, tzinfo=UTC),
            software=software,
            options=ReportOptions(measured_lesions=2, lesion_segments=True),
            kind=kind,
            evolution=_evolution(findings) if plan.has_history else None,
        )
        results += [pydicom.dcmread(item.path) for item in composed.objects]
    return Sample(
        sources=tuple(pydicom.dcmread(path, stop_before_pixels=True) for path in files),
        results=tuple(results),
        configured=frozenset({software.station_name}),
        stated=frozenset(text for model in models for text in (model.name, model.version)),
    )


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
