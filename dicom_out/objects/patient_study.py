"""The patient and the study of the source, copied into every result byte for byte."""

from __future__ import annotations

import codecs
import re

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_out.objects.raw import raw_value

COPIED = (
    "SpecificCharacterSet",
    # Patient (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "EthnicGroup",
    "PatientComments",
    # General Study and Patient Study (PS3.3 C.7.2)
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Of the copied attributes, those that a result holds even when the source lacks them."""
DECIMAL_STRING = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
"""A Decimal String (DS, PS3.5 section 6.2)."""
_FORMS = {
    "PatientAge": re.compile(rb"\d{3}[DWMY]\Z"),
    "PatientSize": DECIMAL_STRING,
    "PatientWeight": DECIMAL_STRING,
    "PatientBirthTime": re.compile(rb"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?\Z"),
}
"""Type 3 attributes with the form of a valid value. A value of another form ("1,80") is not
copied: it would make the result invalid, and it does not identify the patient."""
_TEXT_CODECS = ("ascii", "utf-8", "iso8859", "cp125", "gb", "shift_jis", "euc")
"""First letters of the Python codecs that some senders write as Specific Character Set."""


def copy_patient_and_study(original: Dataset, result: Dataset) -> None:
    """Copy the patient and the study of the source into a result; only padding may change.

    The elements are copied encoded, so that no character set, however odd, changes them.
    """
    for keyword in COPIED:
        tag = Tag(keyword)
        value = _copied(original, keyword)
        if value is not None:
            value = _padded(value, dictionary_VR(tag))
            result[tag] = RawDataElement(
                tag=tag,
                VR=dictionary_VR(tag),
                length=len(value),
                value=value,
                value_tell=0,
                is_implicit_VR=False,
                is_little_endian=True,
            )
        elif keyword in TYPE_2:
            setattr(result, keyword, "")
        elif tag in result:
            del result[tag]


def same_patient_and_study(original: Dataset, result: Dataset) -> bool:
    """Return whether a result that was read back has the patient and the study of the source."""
    for keyword in COPIED:
        expected, actual = _copied(original, keyword), raw_value(result, keyword)
        if (expected or b"").rstrip(b"\0 ") != (actual or b"").rstrip(b"\0 "):
            return False
    return True


def _copied(original: Dataset, keyword: str) -> bytes | None:
    """Return the encoded value to copy; None when the attribute is not copied."""
    value = raw_value(original, keyword)
    if keyword == "SpecificCharacterSet" and not _is_usable_character_set(value or b""):
        return None  # type 1C: absent rather than empty
    form = _FORMS.get(keyword)
    if value and form is not None and not form.match(value.strip(b" \0")):
        return None
    return value


def _is_usable_character_set(character_set: bytes) -> bool:
    """Return whether a Specific Character Set has a term, and no term that breaks readers.

    Readers treat an undefined term (PS3.3 section C.12.1.1.2) as the name of a codec. Some of
    those codecs do not encode text. Readers ignore a term that names no codec.
    """
    terms = [term.strip(b" \0") for term in character_set.split(b"\\")]
    return any(terms) and all(map(_is_harmless, terms))


def _is_harmless(term: bytes) -> bool:
    try:
        codec = codecs.lookup(term.decode("ascii"))
    except (LookupError, ValueError):
        return True
    return codec.name.startswith(_TEXT_CODECS)


def _padded(value: bytes, vr: str) -> bytes:
    """Return a value with the padding of its VR and no other (PS3.5 section 6.2)."""
    padding = b"\0" if vr == "UI" else b" "
    value = value.rstrip(b"\0 " if vr == "UI" else b"\0")
    return value + padding * (len(value) % 2)
