"""The attributes that every result object receives last: purpose, time, patient and study."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from dicom_out.objects.copied_attributes import REFERENCED_REQUEST, REQUEST_ATTRIBUTES
from dicom_out.objects.identity import set_equipment
from dicom_out.objects.patient_study import copy_patient_and_study, set_items
from dicom_out.objects.raw import ascii_value
from dicom_out.objects.series_names import series_description
from dicom_out.objects.sources import Sources
from dicom_out.objects.value_forms import valid_time_zone

_WITH_BODY_PART = frozenset({"OT", "PR", "SEG"})
"""Modalities of the objects with a General Series module (PS3.3 C.7.3.1)."""
_DOCUMENTS = frozenset({"KO", "SR"})
"""Modalities of the objects that refer to requests as documents do (PS3.3 C.17.2, C.17.6.2)."""


def finish(
    dataset: Dataset, analysed: AnalysedSeries, sources: Sources, *, described: str
) -> Dataset:
    """Mark a result as research, date it, and copy the patient and the study into it.

    Args:
        dataset: The result; changed in place and returned.
        analysed: The series that the result describes.
        sources: The images of that series.
        described: The first words of the Series Description.
    """
    dataset.SeriesDescription = series_description(described, sources.original, analysed.revision)
    dataset.ContentQualification = "RESEARCH"
    set_equipment(dataset, analysed.models, analysed.software)
    if dataset.Modality in _WITH_BODY_PART:
        dataset.BodyPartExamined = "CHEST"
    _date(dataset, analysed.created, sources.original)
    copy_patient_and_study(sources.original, dataset)
    _refer_to_requests(dataset, sources.original)
    return dataset


def _refer_to_requests(dataset: Dataset, original: Dataset) -> None:
    """Name the requests that the source was acquired for."""
    if dataset.Modality in _DOCUMENTS:
        study = {"StudyInstanceUID": str(dataset.StudyInstanceUID).encode()}
        form = replace(REFERENCED_REQUEST, defaults=REFERENCED_REQUEST.defaults | study)
        into = "ReferencedRequestSequence"
    else:
        form, into = REQUEST_ATTRIBUTES, "RequestAttributesSequence"
    set_items(original, "RequestAttributesSequence", form, dataset, into)


def _date(dataset: Dataset, created: datetime, original: Dataset) -> None:
    """Date a result by the time of its analysis, so that a repeat writes the same bytes.

    Timezone Offset From UTC applies to every time in the object, also to the copied Study Time.
    The times are therefore in the zone of the source. A source without a zone gets the local time
    of this machine, and no zone.
    """
    offset = ascii_value(original, "TimezoneOffsetFromUTC")
    zone = datetime.strptime(offset, "%z").tzinfo if valid_time_zone(offset) else None
    local = created.astimezone(zone)
    date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    for kind in ("Content", "InstanceCreation", "Series"):
        setattr(dataset, f"{kind}Date", date)
        setattr(dataset, f"{kind}Time", time)
    for item in dataset.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{date}{time}"
    if zone is not None:
        dataset.TimezoneOffsetFromUTC = offset
