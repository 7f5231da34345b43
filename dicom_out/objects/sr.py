"""The report: a Comprehensive 3D SR after TID 1500."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
from pydicom.dataset import Dataset

from chestct.findings import Coverage, Findings
from chestct.results import ModelIdentity, ResultReference, SegKind
from dicom_out.objects import codes
from dicom_out.objects.identity import (
    MANUFACTURER,
    RESEARCH,
    SoftwareIdentity,
    contributing_equipment,
    observer_uid,
)
from dicom_out.objects.image_library import image_library
from dicom_out.objects.seg import stamp
from dicom_out.objects.sources import Sources, take_over
from dicom_out.objects.sr_evolution import evolution_statement
from dicom_out.objects.sr_groups import Reported, measurement_groups
from dicom_out.objects.sr_text import statements
from dicom_out.title import TITLE

SERIES_NUMBER = 9702


def build_sr(
    *,
    kind: SegKind,
    sources: Sources,
    told: Reported,
    predecessor: ResultReference | None,
    created: datetime,
    software: SoftwareIdentity,
) -> Dataset:
    """Build the SR that references the SEGs: PRELIMINARY, UNVERIFIED, for research.

    One that references SEGs of another ``kind`` is another document.
    """
    models, key = told.models, told.key
    report = hd.sr.MeasurementReport(
        observation_context=_observer(models, software),
        procedure_reported=codes.CT_CHEST,
        imaging_measurements=measurement_groups(told),
        title=codes.IMAGING_MEASUREMENT_REPORT,
    )
    content = report[0].ContentSequence
    content.insert(_place_of_measurements(content), image_library(sources))
    said = statements(told.findings, len(told.measured), models, software)
    if since := evolution_statement(told.evolution):
        said.insert(1, since)
    for text in said:
        content.append(
            hd.sr.TextContentItem(
                name=codes.COMMENT,
                value=text,
                relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
            )
        )
    drawn = [told.tissues] if told.lesions is None else [told.tissues, told.lesions]
    sr = hd.sr.Comprehensive3DSR(
        evidence=[*sources.images, *(one.seg for one in drawn)],
        content=report[0],
        series_instance_uid=key.uid(kind.role("sr-series")),
        series_number=SERIES_NUMBER,
        sop_instance_uid=key.uid(kind.role("sr")),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        contributing_equipment=contributing_equipment(models, software),
    )
    sr.ManufacturerModelName = software.name
    sr.SoftwareVersions = software.version
    sr.DeviceSerialNumber = software.station_name
    sr.SeriesDescription = f"{TITLE}: {_verdict(told.findings)} ({RESEARCH})"
    sr.ContentQualification = "RESEARCH"
    sr.CodingSchemeIdentificationSequence = [_private_scheme()]
    if predecessor is not None:
        sr.PredecessorDocumentsSequence = [_reference(predecessor)]
    if told.evolution is not None:
        sr.PertinentOtherEvidenceSequence = [_reference(told.evolution.prior.report)]
    stamp(sr, created, sources.original)
    take_over(sources.original, sr)
    return sr


def _verdict(findings: Findings) -> str:
    """Return the outcome for the list of series: OHIF 3.13 prints no zeros in the report itself."""
    if findings.missing is None:
        return "opacities found" if findings.lesions else "no lesion found"
    lung = "right" if findings.covers is Coverage.LEFT else "left"
    return "opacities found" if findings.lesions else f"{lung} not assessable"


def _place_of_measurements(content: Sequence[Dataset]) -> int:
    """Return where the measurements stand: the image library goes before them (TID 1500)."""
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in content]
    return names.index(codes.IMAGING_MEASUREMENTS.value)


def _observer(
    models: Sequence[ModelIdentity], software: SoftwareIdentity
) -> hd.sr.ObservationContext:
    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=observer_uid(models),
        name=software.station_name,
        manufacturer_name=MANUFACTURER,
        model_name=f"{software.name} {software.version}",
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=hd.sr.CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=attributes,
        )
    )


def _private_scheme() -> Dataset:
    """Return who answers for the private codes (PS3.3 C.12.1, docs/private-codes.md)."""
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    scheme.CodingSchemeName = "Rales private codes"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    return scheme


def _reference(predecessor: ResultReference) -> Dataset:
    """Return a reference to another document (PS3.3 table C.17-3a)."""
    instance = Dataset()
    instance.ReferencedSOPClassUID = predecessor.sop_class_uid
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = predecessor.series_uid
    series.ReferencedSOPSequence = [instance]
    item = Dataset()
    item.StudyInstanceUID = predecessor.study_uid
    item.ReferencedSeriesSequence = [series]
    return item
