"""Results of made-up series, from which the statement reads what the writers write.

The series differ in everything that a source decides, the analyses in everything that the
configuration, the models and the clock decide: a value that is the same in all results is fixed.
The series are those of the tests of the writers (``tests/support/chest_cases.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from chest_cases import MODELS, Case, both_lungs, healthy_lungs, make_case
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from chestct.evolution import AcquisitionContext, PriorResult, compare
from chestct.findings import Findings, Method, NotAssessable, Presence, Severity, Side
from chestct.results import (
    Extra,
    ModelIdentity,
    ReportOptions,
    ResultReference,
    SegKind,
    SoftwareIdentity,
)
from chestct.uids import Uid, derive_uid, digest
from chestct.volume import Label
from conformance.elements import values_of
from dicom_out.objects.extras import compose_extras
from dicom_out.objects.patient_study import COPIED
from inference.reading.quantify import measure
from inference.reading.sides import Missing
from rales.pictures.page import drawings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResults:
    """What one analysis sends, and where its values may come from.

    Attributes:
        results: Every object of every kind, as it reads back.
        copied: The values of the source images by keyword; all UIDs of them under ``UI``.
        configured: Values that the configuration file decides.
        from_manifests: Values that the manifests of the models decide.
    """

    results: tuple[Dataset, ...]
    copied: Mapping[str, set[str]]
    configured: frozenset[str]
    from_manifests: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSeries:
    """One made-up series; ``number`` is part of every made-up value.

    Attributes:
        is_sparse: The header lacks every element that it may lack, and the study has a prior.
        missing: The lung that is not assessable.
    """

    number: int
    has_lesions: bool = True
    is_sparse: bool = False
    missing: Side | None = None

    def make(self, folder: Path) -> Case:
        """Write the series into ``folder``."""
        number = self.number
        labels = both_lungs() if self.has_lesions else healthy_lungs()
        if self.missing is Side.LEFT:
            labels[labels == Label.LEFT_LUNG] = Label.BACKGROUND
        if number % 3 == 0:
            labels[:, 10, 3] = Label.RIGHT_LUNG  # another outline
        flip = -1.0 if number % 2 else 1.0
        return make_case(
            folder,
            labels=np.pad(
                np.repeat(labels, 1 + number, axis=0), ((0, 0), (number, 0), (number, number))
            ),
            cosines=((flip, 0.0, 0.0), (0.0, flip, 0.0)),
            pixel_spacing=(1.5 + number / 10, 0.75 + number / 20),
            slice_spacing=4 + number / 10,
            change=self._edit,
        )

    def _edit(self, header: Dataset) -> None:
        header.RescaleSlope = f"1.00{self.number}"
        header.RescaleIntercept = f"{-1024 + self.number}"
        header.SliceThickness = f"3.{self.number}"
        if self.is_sparse:
            self._strip(header)
        else:
            self._fill(header)

    def _fill(self, header: Dataset) -> None:
        """Give a header every element that results copy."""
        number = self.number
        values = {
            "AS": f"04{number}Y",
            "CS": "FMO"[number % 3],
            "DA": f"200{number}0304",
            "DS": f"{60 + number}",
            "LO": f"Text {number}",
            "LT": f"Comment {number}",
            "PN": f"Name^{number}",
            "SH": f"ID {number}",
            "TM": f"10110{number}",
        }
        for keyword in _COPIED:
            setattr(header, keyword, values[dictionary_VR(keyword)])
        header.SpecificCharacterSet = f"ISO_IR {100 + number % 2}"
        header.RescaleType = "HU"
        header.TimezoneOffsetFromUTC = f"+0{number}00"
        header.PositionReferenceIndicator = f"Mark {number}"
        header.LossyImageCompression = f"0{number % 2}"
        if number % 2:
            header.LossyImageCompressionRatio = "12.5"
            header.LossyImageCompressionMethod = "ISO_15444_1"

    def _strip(self, header: Dataset) -> None:
        """Remove from a header what a source may lack."""
        for keyword in _COPIED:
            header.pop(keyword, None)
        header.SpecificCharacterSet = "ISO_IR 192"


_COPIED = [name for name in COPIED if name not in ("SpecificCharacterSet", "StudyInstanceUID")]
_SOURCES = (
    SampleSeries(number=1),
    SampleSeries(number=2, has_lesions=False),
    SampleSeries(number=3, is_sparse=True),
    SampleSeries(number=6, has_lesions=False, missing=Side.LEFT),
)


def make_samples() -> tuple[SampleResults, ...]:
    """Return a sample of each source."""
    with TemporaryDirectory(prefix="rales-") as folder:
        return tuple(_sample(source, Path(folder) / str(source.number)) for source in _SOURCES)


def by_class(samples: Sequence[SampleResults]) -> dict[str, list[list[Dataset]]]:
    """Return the results of each SOP class, a list per sample."""
    classes = dict.fromkeys(str(one.SOPClassUID) for sample in samples for one in sample.results)
    return {
        uid: [[one for one in sample.results if uid == one.SOPClassUID] for sample in samples]
        for uid in classes
    }


def _sample(source: SampleSeries, folder: Path) -> SampleResults:
    number, case = source.number, source.make(folder / "in")
    models = tuple(_renamed(model, number) for model in MODELS)
    station_name = f"NODE{number}"
    analysis = {
        "models": models,
        "key": replace(case.key, config_digest=str(number)),
        "created": datetime(2026, 2, number, 4, 5, number, tzinfo=UTC),
        "software": SoftwareIdentity(
            name="Rales", version=f"0.0.{number}", station_name=station_name
        ),
    }
    written = []
    for kind in SegKind:
        findings = _findings(source, kind, case)
        history = _history(kind, findings) if source.is_sparse else {}
        options = ReportOptions(measured_lesions=2, lesion_segments=True)
        written += case.compose(
            folder, kind=kind, findings=findings, options=options, **history, **analysis
        ).objects
    analysed = case.analysed(**analysis)
    written += compose_extras(
        tuple(Extra), drawings_of(analysed), analysed, case.sources(), folder
    ).objects
    return SampleResults(
        results=tuple(pydicom.dcmread(result.path) for result in written),
        copied=values_by_keyword([pydicom.dcmread(image.path) for image in case.series.instances]),
        configured=frozenset({station_name}),
        from_manifests=frozenset(text for model in models for text in (model.name, model.version)),
    )


def _renamed(model: ModelIdentity, number: int) -> ModelIdentity:
    name, version = f"{model.name}-{number}", f"{number}.{model.version}"
    return replace(model, name=name, version=version, digest=digest([name]))


def values_by_keyword(images: Sequence[Dataset]) -> Mapping[str, set[str]]:
    """Return every value of the images by keyword; their UIDs under ``UI`` as well."""
    values: dict[str, set[str]] = defaultdict(set)
    for image in images:
        for element in image.iterall():
            for key in (element.keyword, *(("UI",) if element.VR == "UI" else ())):
                values[key] |= values_of(element)
    return values


def _findings(source: SampleSeries, kind: SegKind, case: Case) -> Findings:
    """Return the measurements, with cuts by which every severity occurs."""
    cuts = {SegKind.LABELMAP: (0.01, 0.02)}.get(kind, (90, 95) if source.is_sparse else (5, 25))
    method = Method(
        high_opacity_hu=-300.0 - source.number,
        minimum_lesion_ml=0.1 * source.number,
        mild_percent=cuts[0],
        moderate_percent=cuts[1],
    )
    missing = None
    if source.missing:
        lung = NotAssessable(aerated_ml=12.0, needed_ml=345.0)
        missing = Missing(side=source.missing, lung=lung, other_ml=1380.0)
    presence = Presence(score=0.9 if source.has_lesions else 0.1, operating_point=0.5)
    return measure(case.volume, case.lesion_map, presence, method, missing=missing)


def _history(kind: SegKind, findings: Findings) -> dict[str, object]:
    """Return an earlier revision, and the comparison with a study of two weeks before."""
    present = AcquisitionContext(
        study_uid=derive_uid("present"),
        acquired=datetime(2026, 2, 3, 4, 5),  # noqa: DTZ001 - a scanner's local time
        has_time=True,
        patient="p",
        birth_date="",
        sex="",
        models="m",
        settings="s",
        kernel="",
        slice_spacing_mm=4.4,
    )
    acquired = present.acquired - timedelta(days=14)
    prior = PriorResult(
        context=replace(present, study_uid=derive_uid("prior", "study"), acquired=acquired),
        report=_reference("prior"),
        lesion_ml=100.0,
        involved_percent=10.0,
        severity=Severity.MODERATE,
    )
    evolution = compare(findings, present, [prior])
    return {"predecessors": {kind: _reference("predecessor")}, "evolution": evolution}


def _reference(role: str) -> ResultReference:
    return ResultReference(
        study_uid=derive_uid(role, "study"),
        series_uid=derive_uid(role, "series"),
        sop_class_uid=Uid(Comprehensive3DSRStorage),
        sop_instance_uid=derive_uid(role, "instance"),
    )
