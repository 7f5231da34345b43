"""Results of synthetic series, from which the statement reads what the writers write.

The series are those of the tests of the writers (``tests/support/chest_cases.py``). They differ in
every value that a source decides, and the analyses in every value that the configuration, the
models and the clock decide: a value that is the same in all results is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from chest_cases import MODELS, Case, both_lungs, healthy_lungs, make_case
from prior_results import evolution_after, report_reference
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.findings import Findings, NotAssessable, Side
from chestct.method import Method, Presence
from chestct.results import Extra, Profile, ReportOptions, ResultObject, SoftwareIdentity
from chestct.uids import digest
from chestct.volume import Label
from conformance.observed import SampleResults, values_by_keyword
from dicom_out.objects.compose import compose
from dicom_out.objects.copied_attributes import (
    CLINICAL_TRIALS,
    COPIED,
    REQUEST_ATTRIBUTES,
    SEQUENCES,
    TERMS,
)
from dicom_out.objects.extras import compose_extras
from inference.reading.quantify import measure
from inference.reading.sides import Missing
from rales.pictures.page import drawings_of

_PROFILES = (Profile.OHIF, Profile.LABELMAP, Profile.PLAIN)
"""Profiles that have each SOP class among them."""
_ALWAYS = ("SpecificCharacterSet", "StudyInstanceUID")
_ITEM_TERMS = {"DistributionType": "RESTRICTED_REUSE", "UniversalEntityIDType": "ISO"}
_VALUES = {
    "AS": "04{0}Y",
    "DA": "200{0}0304",
    "DS": "6{0}",
    "LO": "Text {0}",
    "LT": "Comment {0}",
    "PN": "Name^{0}",
    "SH": "ID {0}",
    "TM": "10110{0}",
}
"""Values of copied elements by VR; {0} is the number of the series, {1} a letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSeries:
    """One synthetic series; ``number`` is part of every value.

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
                np.repeat(labels, 1 + number // 2, axis=0), ((0, 0), (number, 0), (number, number))
            ),
            cosines=((flip, 0.0, 0.0), (0.0, flip, 0.0)),
            pixel_spacing=(1.5 + number / 10, 0.75 + number / 20),
            slice_spacing=4 + number / 10,
            change=self._edit,
        )

    def _edit(self, header: Dataset) -> None:
        """Give a header every element that results copy, or remove them all."""
        number = self.number
        header.RescaleSlope, header.RescaleIntercept = f"1.00{number}", f"{-1024 + number}"
        header.SliceThickness = f"3.{number}"
        header.SpecificCharacterSet = ("ISO_IR 192", "ISO_IR 100", "ISO_IR 101")[number % 3]
        for keyword in COPIED:
            if keyword in _ALWAYS:
                continue
            if self.is_sparse:
                header.pop(keyword, None)
            else:
                terms = sorted(term.decode() for term in TERMS.get(keyword, ()))
                value = (
                    terms[number % len(terms)]
                    if terms
                    else _VALUES[dictionary_VR(keyword)].format(number)
                )
                setattr(header, keyword, value)
        if self.is_sparse:
            del header.SeriesNumber
        else:
            header.SeriesNumber = 10 + number
            header.SeriesDescription = f"Series {number}"
            _add_order_and_trial(header, number)
            header.RescaleType = "HU"
            header.TimezoneOffsetFromUTC = f"+0{number}00"
            header.PositionReferenceIndicator = f"Mark {number}"
            header.LossyImageCompression = f"0{number % 2}"
        if not self.is_sparse and number % 2:
            header.LossyImageCompressionRatio = "12.5"
            header.LossyImageCompressionMethod = "ISO_15444_1"

    def analyse(self, case: Case) -> AnalysedSeries:
        """Return what an analysis of the series says."""
        number, findings = self.number, self._findings(case)
        analysed: AnalysedSeries = case.analysed(
            findings=findings,
            models=tuple(
                replace(
                    model,
                    name=f"{model.name}-{number}",
                    version=f"{number}.{model.version}",
                    digest=digest([model.name, str(number)]),
                )
                for model in MODELS
            ),
            key=replace(case.key, config_digest=str(number)),
            created=datetime(2026, 2, number, 4, 5, number, tzinfo=UTC),
            software=SoftwareIdentity(
                name="Rales", version=f"0.0.{number}", station_name=f"NODE{number}"
            ),
            options=ReportOptions(measured_lesions=2, lesion_segments=True),
            predecessors=(
                dict.fromkeys(Profile, report_reference("earlier")) if self.is_sparse else {}
            ),
            evolution=evolution_after(findings) if self.is_sparse else None,
        )
        return analysed

    def _findings(self, case: Case) -> Findings:
        method = Method(
            high_opacity_hu=-300.0 - self.number,
            minimum_lesion_ml=0.1 * self.number,
            mild_percent=5.0 * self.number,
            moderate_percent=15.0 * self.number,
        )
        missing = None
        if self.missing:
            lung = NotAssessable(aerated_ml=12.0, needed_ml=345.0)
            missing = Missing(side=self.missing, lung=lung, other_ml=1380.0)
        presence = Presence(score=0.9 if self.has_lesions else 0.1, operating_point=0.5)
        return measure(case.volume, case.lesion_map, presence, method, missing=missing)


def _add_order_and_trial(header: Dataset, number: int) -> None:
    """Give a header the sequences and the modules that results carry."""
    for module in CLINICAL_TRIALS:
        for keyword in module.values:
            setattr(header, keyword, f"Trial {number}")
    for keyword, form in {**SEQUENCES, "RequestAttributesSequence": REQUEST_ATTRIBUTES}.items():
        item = Dataset()
        for part in form.values:
            terms = sorted(term.decode() for term in TERMS.get(part, ()))
            text = f"1.2.{number}" if dictionary_VR(part) == "UI" else f"Text {number}"
            setattr(item, part, _ITEM_TERMS.get(part) or (terms[-1] if terms else text))
        setattr(header, keyword, [item])


_SERIES = (
    SampleSeries(number=1),
    SampleSeries(number=2, has_lesions=False),
    SampleSeries(number=3, is_sparse=True),
    SampleSeries(number=6, has_lesions=False, missing=Side.LEFT),
)


def make_samples() -> Iterator[SampleResults]:
    """Yield what the writers write of each series."""
    for series in _SERIES:
        with TemporaryDirectory(prefix="rales-") as name:
            yield _write(series, Path(name))


def _write(series: SampleSeries, folder: Path) -> SampleResults:
    case = series.make(folder)
    sources, written = case.sources(), list[ResultObject]()
    analysed = series.analyse(case)
    for profile in _PROFILES:
        written += compose(analysed, sources, folder, (profile,))
    drawings = drawings_of(analysed, sources)
    written += compose_extras(tuple(Extra), drawings, analysed, sources, folder).objects
    return SampleResults(
        results=tuple(pydicom.dcmread(item.path) for item in written),
        copied=values_by_keyword([pydicom.dcmread(image.path) for image in case.series.instances]),
        configured=frozenset({analysed.software.station_name}),
        from_manifests=frozenset(
            text for model in analysed.models for text in (model.name, model.version)
        ),
    )
