"""Reads the numbers of a report that Rales wrote, for the comparison with a later study.

The report may come from an archive, so the reader trusts nothing: any report that differs from
those of :mod:`dicom_out.objects.sr` raises :class:`NotOurReport`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from chestct.findings import Coverage
from chestct.method import Method
from chestct.results import ResultReference
from chestct.uids import Uid
from dicom_out.objects import codes
from dicom_out.objects.acquisition import read_study_time
from dicom_out.objects.identity import MANUFACTURER
from dicom_out.objects.patient_study import valid_text
from dicom_out.objects.raw import raw_value
from dicom_out.title import REPORT_CLASSES

_DEEPEST = 12
_MOST_ML = 50_000.0
_SUMMARY = "Summary"
_MODEL = "model_sha256"
_COVERED_WITHOUT = {"Left lung": Coverage.RIGHT, "Right lung": Coverage.LEFT}
"""The lungs that a report covers if the lung of this group is not assessable."""
_PERCENTS = {
    Coverage.BOTH: codes.INVOLVED,
    Coverage.LEFT: codes.INVOLVED_LEFT,
    Coverage.RIGHT: codes.INVOLVED_RIGHT,
}


class NotOurReport(ValueError):
    """The object is not a readable report of Rales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierReport:
    """The identity and the numbers of a report.

    Attributes:
        patient: Encoded Patient ID, Issuer of Patient ID, Patient's Name and Specific Character
            Set, without padding.
        acquired: Study Date and Time, copied from the images; midnight without a time.
        models: Digests of the lung model and the lesion model.
        lesion_ml, involved_percent: Of the lungs in ``covers``.
        written: Content Date and Time; orders revisions.
    """

    study_uid: Uid
    reference: ResultReference
    patient: tuple[bytes, bytes, bytes, bytes]
    birth_date: str
    sex: str
    acquired: datetime
    models: tuple[str, str]
    method: Method
    lesion_ml: float
    involved_percent: float
    covers: Coverage
    written: str


def read_report(report: Dataset) -> EarlierReport:
    """Read an SR of Rales.

    Raises:
        NotOurReport: The object is of another kind or manufacturer, or lacks a value.
    """
    try:
        return _read(report)
    except NotOurReport:
        raise
    except Exception as error:
        raise NotOurReport(f"the report cannot be read: {error}") from error


def _read(report: Dataset) -> EarlierReport:
    if report.SOPClassUID not in REPORT_CLASSES or report.Manufacturer != MANUFACTURER:
        raise NotOurReport("the object is not an SR of Rales")
    acquired = read_study_time(report)
    if acquired is None:
        raise NotOurReport("the report has no valid Study Date")
    groups = list(_groups(report, 0))
    summary = next(group for group in groups if _tracked(group) == _SUMMARY)
    lesion_model = _parameters(summary)
    lung_model = next(_parameters(group) for group in groups if _tracked(group) in _COVERED_WITHOUT)
    covers = _covers(groups)
    lesion_ml, involved = _lesion_numbers(summary, covers)
    study_uid = Uid(report.StudyInstanceUID)
    return EarlierReport(
        study_uid=study_uid,
        reference=ResultReference(
            study_uid=study_uid,
            series_uid=Uid(report.SeriesInstanceUID),
            sop_class_uid=Uid(report.SOPClassUID),
            sop_instance_uid=Uid(report.SOPInstanceUID),
        ),
        patient=(
            _raw(report, "PatientID"),
            _raw(report, "IssuerOfPatientID"),
            _raw(report, "PatientName"),
            _raw(report, "SpecificCharacterSet"),
        ),
        birth_date=valid_text(report, "PatientBirthDate"),
        sex=valid_text(report, "PatientSex"),
        acquired=acquired,
        models=(lung_model[_MODEL], lesion_model[_MODEL]),
        method=_method(lesion_model),
        lesion_ml=lesion_ml,
        involved_percent=involved,
        covers=covers,
        written=f"{report.get('ContentDate', '')}{report.get('ContentTime', '')}",
    )


def _lesion_numbers(summary: Dataset, covers: Coverage) -> tuple[float, float]:
    """Return the lesion volume in ml and the involvement in percent."""
    numbers = _numbers(summary)
    is_in_doubt = covers is Coverage.BOTH and _is_undetermined(summary)
    if is_in_doubt or codes.LESION_VOLUME.value not in numbers:
        raise NotOurReport("the report states no amount of opacity: its result is indeterminate")
    lesion_ml, involved = numbers[codes.LESION_VOLUME.value], numbers[_PERCENTS[covers].value]
    if not (0 <= lesion_ml < _MOST_ML and 0 <= involved <= 100):  # noqa: PLR2004 - nor NaN
        raise NotOurReport(
            f"the lesion volume ({lesion_ml:g} ml) or involvement ({involved:g} %) is impossible"
        )
    return lesion_ml, involved


def _groups(item: Dataset, depth: int) -> Iterator[Dataset]:
    """Yield the measurement groups; a report of Rales is never nested deeper."""
    if depth > _DEEPEST:
        raise NotOurReport(f"the content is nested more than {_DEEPEST} levels deep")
    for child in item.get("ContentSequence") or ():
        if _name(child) == codes.MEASUREMENT_GROUP.value:
            yield child
        else:
            yield from _groups(child, depth + 1)


def _covers(groups: Sequence[Dataset]) -> Coverage:
    """Return the assessable lungs: for a lung that is not, the opacity presence is undetermined."""
    undetermined = {_tracked(group) for group in groups if _is_undetermined(group)}
    not_assessable = undetermined & set(_COVERED_WITHOUT)
    if len(not_assessable) > 1:
        raise NotOurReport("neither lung is assessable")
    return _COVERED_WITHOUT[not_assessable.pop()] if not_assessable else Coverage.BOTH


def _is_undetermined(group: Dataset) -> bool:
    return any(
        _name(child) == codes.LESION_PRESENCE.value
        and child.ConceptCodeSequence[0].CodeValue == codes.UNDETERMINED.value
        for child in group.ContentSequence
    )


def _name(item: Dataset) -> str:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].CodeValue) if concept else ""


def _tracked(group: Dataset) -> str:
    """Return the tracking identifier of a group."""
    identifiers = [
        str(child.TextValue)
        for child in group.ContentSequence
        if _name(child) == codes.TRACKING_IDENTIFIER.value
    ]
    return identifiers[0] if identifiers else ""


def _parameters(group: Dataset) -> Mapping[str, str]:
    """Return the algorithm parameters of a group, each a text ``name=value`` (TID 4019)."""
    texts = [
        str(child.TextValue)
        for child in group.ContentSequence
        if _name(child) == codes.ALGORITHM_PARAMETERS.value
    ]
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _numbers(group: Dataset) -> Mapping[str, float]:
    return {
        _name(child): float(child.MeasuredValueSequence[0].NumericValue)
        for child in group.ContentSequence
        if child.ValueType == "NUM"
    }


def _method(stated: Mapping[str, str]) -> Method:
    least_hu = stated.get("minimum_lesion_hu")
    return Method(
        high_opacity_hu=float(stated["high_opacity_hu"]),
        density_smoothing_mm=float(stated.get("density_smoothing_mm", 0)),
        minimum_piece_ml=float(stated.get("minimum_piece_ml", 0)),
        minimum_lesion_ml=float(stated["minimum_lesion_ml"]),
        minimum_lesion_hu=None if least_hu is None else float(least_hu),
        mild_percent=float(stated["mild_percent"]),
        moderate_percent=float(stated["moderate_percent"]),
    )


def _raw(report: Dataset, keyword: str) -> bytes:
    return (raw_value(report, keyword) or b"").rstrip(b"\0 ")
