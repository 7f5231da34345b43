"""The report: a Comprehensive 3D SR or Comprehensive SR after TID 1500."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset

from chestct.results import Profile, ResultReference
from chestct.verdict import short
from dicom_out.objects import codes
from dicom_out.objects.finish import finish
from dicom_out.objects.identity import (
    MANUFACTURER,
    contributing_equipment,
    device_observer,
)
from dicom_out.objects.image_library import image_library
from dicom_out.objects.series_names import ResultKind, series_number
from dicom_out.objects.sources import Sources
from dicom_out.objects.sr_content import ReportContent
from dicom_out.objects.sr_evolution import evolution_statement
from dicom_out.objects.sr_groups import measurement_groups
from dicom_out.objects.sr_slicer import lesions_in_words, one_for_each_segment
from dicom_out.objects.sr_text import statements
from dicom_out.reference import sop_reference


def build_sr(report: ReportContent, sources: Sources) -> Dataset:
    """Build the SR of a profile: PRELIMINARY, UNVERIFIED, for research.

    The SRs of two profiles are two documents. The SR for viewers without SEG support is a
    Comprehensive SR, which they know better than Comprehensive 3D SR; none has 3D coordinates.
    """
    analysed, profile = report.analysed, report.profile
    key, models, software = analysed.key, analysed.models, analysed.software
    (content,) = _measurement_report(report, sources)
    items = content.ContentSequence
    # highdicom copies the content and looks for references in it: it gets the title alone.
    content.ContentSequence = items[:1]
    sr = (hd.sr.ComprehensiveSR if profile is Profile.PLAIN else hd.sr.Comprehensive3DSR)(
        evidence=sources.images[:1],
        content=content,
        series_instance_uid=key.uid(profile.role("sr-series")),
        series_number=series_number(sources.original, ResultKind.REPORT),
        sop_instance_uid=key.uid(profile.role("sr")),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        contributing_equipment=contributing_equipment(models, software),
    )
    sr.ContentSequence = items
    sr.CurrentRequestedProcedureEvidenceSequence = [_evidence([*sources.images, *report.segs])]
    sr.CodingSchemeIdentificationSequence = [_private_scheme()]
    predecessor = analysed.predecessors.get(profile)
    if predecessor is not None:
        sr.PredecessorDocumentsSequence = [_reference(predecessor)]
    if analysed.evolution is not None:
        sr.PertinentOtherEvidenceSequence = [
            _reference(analysed.evolution.prior.report_for(profile))
        ]
    return finish(sr, analysed, sources, described=short(analysed.findings))


def _evidence(instances: Sequence[Dataset]) -> Dataset:
    """Return the item that lists instances of the study by their series (PS3.3 table C.17-3)."""
    by_series: dict[str, list[Dataset]] = {}
    for instance in instances:
        reference = sop_reference(instance.SOPClassUID, instance.SOPInstanceUID)
        by_series.setdefault(instance.SeriesInstanceUID, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = instances[0].StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for series_uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(series)
    return study


def _measurement_report(report: ReportContent, sources: Sources) -> hd.sr.MeasurementReport:
    """Return the content of the SR (TID 1500).

    After the context come the claim, the image library, the measurement groups and the comments.
    The claim comes first because readers of long reports stop early.
    """
    analysed = report.analysed
    groups = measurement_groups(report)
    if report.profile is Profile.SLICER:
        groups = one_for_each_segment(groups)
    document = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=device_observer(analysed.models, analysed.software)
        ),
        procedure_reported=codes.CT,
        imaging_measurements=groups,
        title=codes.IMAGING_MEASUREMENT_REPORT,
    )
    content = document[0].ContentSequence
    claim, *remarks = statements(
        analysed.findings, len(report.measured), analysed.models, analysed.software
    )
    if report.profile is Profile.SLICER:
        remarks += lesions_in_words(analysed)
    if evolution := evolution_statement(analysed.evolution, report.profile):
        remarks.insert(0, evolution)
    first = _index_of_measurements(content)
    content.insert(first, image_library(sources))
    content.insert(first, _comment(claim))
    for remark in remarks:
        content.append(_comment(remark))
    return document


def _comment(text: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        name=codes.COMMENT,
        value=text,
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def _index_of_measurements(content: Sequence[Dataset]) -> int:
    """Return the index of the measurements: the image library precedes them (TID 1500)."""
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in content]
    return names.index(codes.IMAGING_MEASUREMENTS.value)


def _private_scheme() -> Dataset:
    """Return the owner of the private codes (PS3.3 C.12.1, docs/private-codes.md)."""
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    scheme.CodingSchemeName = "Rales private codes"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    return scheme


def _reference(document: ResultReference) -> Dataset:
    """Return a reference to another document (PS3.3 table C.17-3a)."""
    instance = sop_reference(document.sop_class_uid, document.sop_instance_uid)
    series = Dataset()
    series.SeriesInstanceUID = document.series_uid
    series.ReferencedSOPSequence = [instance]
    item = Dataset()
    item.StudyInstanceUID = document.study_uid
    item.ReferencedSeriesSequence = [series]
    return item
