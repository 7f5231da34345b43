"""The patient and the study of the source, copied into every result.

A valid value is copied encoded, byte for byte, so that no character set, however odd, changes it.
An invalid value is mended where its meaning is certain, and otherwise left out.
"""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_out.objects.copied_attributes import (
    CLINICAL_TRIALS,
    COPIED,
    EVERY_ATTRIBUTE,
    LOSSY_HISTORY,
    SEQUENCES,
    TYPE_2,
    ItemForm,
)
from dicom_out.objects.elements import set_encoded
from dicom_out.objects.header_copy import (
    Copied,
    Faults,
    copy_character_set,
    copy_form,
    copy_items,
    copy_values,
    name_of,
)
from dicom_out.objects.raw import ascii_value, raw_value
from dicom_out.objects.value_forms import valid_time_zone

_UNSTATED = b"Not stated by the source images"
"""De-identification Method of de-identified images without one: the standard requires a value."""


def copy_patient_and_study(original: Dataset, result: Dataset) -> None:
    """Copy the patient and the study of the source into a result."""
    values, _ = _patient_and_study(original)
    for keyword in EVERY_ATTRIBUTE:
        result.pop(Tag(keyword), None)
    for keyword, value in values.items():
        set_encoded(result, keyword, value)


def same_patient_and_study(original: Dataset, result: Dataset) -> bool:
    """Return whether a result that was read back has the patient and the study of the source."""
    values, _ = _patient_and_study(original)
    return all(
        values.get(keyword, b"").rstrip(b"\0 ")
        == (raw_value(result, keyword) or b"").rstrip(b"\0 ")
        for keyword in EVERY_ATTRIBUTE
    )


def header_note(original: Dataset) -> str:
    """Return which header values of the source are invalid; empty when none are."""
    _, faults = _patient_and_study(original)
    _copy_values(original, (*LOSSY_HISTORY, "PositionReferenceIndicator"), faults)
    offset = ascii_value(original, "TimezoneOffsetFromUTC")
    if offset and not valid_time_zone(offset):
        faults.left_out[name_of("TimezoneOffsetFromUTC")] = None
    return faults.note


def carried_identity(header: Dataset) -> tuple[bytes, bytes, bytes, bytes]:
    """Return Patient ID, issuer, name and character set, encoded as results carry them."""
    faults = Faults()
    copied = copy_character_set(header, b"", faults)
    copy_values(header, ("PatientID", "IssuerOfPatientID", "PatientName"), copied, faults)
    values = copied.values
    return (
        values.get("PatientID", b""),
        values.get("IssuerOfPatientID", b""),
        values.get("PatientName", b""),
        values.get("SpecificCharacterSet", b""),
    )


def valid_text(header: Dataset, keyword: str) -> str:
    """Return a value as results carry it, each byte as one character; empty when it is invalid."""
    values = _copy_values(header, (keyword,), Faults())
    return values.get(keyword, b"").decode("latin-1").strip(" \0")


def lossy_history(original: Dataset) -> dict[str, list[str]]:
    """Return the valid values of the attributes that state lossy compression, by keyword."""
    values = _copy_values(original, LOSSY_HISTORY, Faults())
    if "LossyImageCompression" not in values:
        return {}
    return {
        keyword: [part.strip() for part in value.decode("ascii").split("\\")]
        for keyword, value in values.items()
    }


def _copy_values(header: Dataset, keywords: tuple[str, ...], faults: Faults) -> dict[str, bytes]:
    copied = Copied(values={}, character_set=b"")
    copy_values(header, keywords, copied, faults)
    return copied.values


def set_items(original: Dataset, keyword: str, form: ItemForm, result: Dataset, into: str) -> None:
    """Copy the valid items of a sequence of the source into the sequence ``into`` of a result."""
    character_set = copy_character_set(original, b"", Faults()).character_set
    if items := copy_items(original, keyword, form, character_set, Faults()):
        set_encoded(result, into, items)


def _patient_and_study(original: Dataset) -> tuple[dict[str, bytes], Faults]:
    """Return the encoded values to copy, and which values of the source are invalid."""
    faults = Faults()
    copied = copy_character_set(original, b"", faults)
    copy_values(original, COPIED, copied, faults)
    for keyword, form in SEQUENCES.items():
        if items := copy_items(original, keyword, form, copied.character_set, faults):
            copied.values[keyword] = items
    for module in CLINICAL_TRIALS:
        copy_form(original, module, copied, faults)
    values = copied.values
    values["StudyInstanceUID"] = (raw_value(original, "StudyInstanceUID") or b"").rstrip(b"\0 ")
    method = {"DeidentificationMethod", "DeidentificationMethodCodeSequence"}
    if values.get("PatientIdentityRemoved", b"").strip() == b"YES" and not method & values.keys():
        values["DeidentificationMethod"] = _UNSTATED
        faults.mended[name_of("DeidentificationMethod")] = None
    for keyword in TYPE_2:
        values.setdefault(keyword, b"")
    return values, faults
