"""Results carry the patient, study and frame of reference of their series.

Valid values come back byte for byte; test_invalid_headers.py has the invalid ones.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom
import pytest
from chest_cases import Case, make_case
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from chestct.errors import InputUnavailable
from dicom_out.objects.patient_study import same_patient_and_study

pytestmark = pytest.mark.slow

NAMES = {
    "none, ASCII": (None, b"Doe^John"),
    "none, but Latin-1 bytes": (None, "Müller^Jörg".encode("latin-1")),
    "empty": (b"", b"Doe^John"),
    "Latin-1": (b"ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "Greek": (b"ISO_IR 126", "Διονυσιος".encode("iso8859-7")),
    "Cyrillic": (b"ISO_IR 144", "Жук^Юлия".encode("iso8859-5")),
    "UTF-8": (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode()),
    "GB18030": (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    "Japanese (PS3.5 H.3.1)": (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "Japanese with Katakana (PS3.5 H.3.2)": (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    ),
    "Korean (PS3.5 I.2)": (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    "two, one of them without code extensions": (b"ISO_IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde"),
    "of a writer's own": (b"ISO-IR 100", "Müller^Jörg".encode("latin-1")),
    "named as in Python": (b"utf-8", "Müller^Jörg".encode()),
    "unknown": (b"NONSENSE", b"\xff\xfe\x80^X"),
}
MENDED_CHARACTER_SETS = {
    b"ISO_IR 13\\ISO 2022 IR 87": b"ISO 2022 IR 13\\ISO 2022 IR 87",
    b"ISO-IR 100": b"ISO_IR 100",
    b"utf-8": b"ISO_IR 192",
    b"NONSENSE": b"",
}
"""Invalid character sets, and what results state instead."""


def padded(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def put(dataset: Dataset, keyword: str, value: bytes) -> None:
    """Set the encoded value of an element, whatever it is."""
    tag = Tag(keyword)
    raw = RawDataElement(
        tag=tag,
        VR=dictionary_VR(tag),
        length=len(padded(value)),
        value=padded(value),
        value_tell=0,
        is_implicit_VR=False,
        is_little_endian=True,
    )
    dataset._dict[tag] = raw


def encoded(keyword: str, value: bytes) -> bytes:
    """Return an element in explicit VR little endian."""
    tag, vr = Tag(keyword), dictionary_VR(keyword).encode()
    value = padded(value)
    return struct.pack("<HH", tag.group, tag.element) + vr + struct.pack("<H", len(value)) + value


def files(case: Case, folder: Path) -> list[bytes]:
    return [item.path.read_bytes() for item in case.compose(folder).objects]


@pytest.mark.filterwarnings("ignore:.*(encoding|Specific Character Set):UserWarning")
@pytest.mark.filterwarnings("ignore:Incorrect value for Specific Character Set:UserWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"]
)
def test_names_in_every_character_set_come_back_byte_for_byte(
    name: str, syntax: UID, tmp_path: Path
) -> None:
    character_set, patient = NAMES[name]

    def change(dataset: Dataset) -> None:
        del dataset.SpecificCharacterSet
        if character_set is not None:
            put(dataset, "SpecificCharacterSet", character_set)
        put(dataset, "PatientName", patient)
        put(dataset, "ReferringPhysicianName", patient)
        put(dataset, "StudyDescription", patient)

    case = make_case(tmp_path / "series", change=change, syntax=syntax)
    for content in files(case, tmp_path / "out"):
        for keyword in ("PatientName", "ReferringPhysicianName", "StudyDescription"):
            assert encoded(keyword, patient) in content
        stated = MENDED_CHARACTER_SETS.get(character_set or b"", character_set)
        if not stated:  # empty is absent
            assert b"\x08\x00\x05\x00CS" not in content
        else:
            assert encoded("SpecificCharacterSet", stated) in content


def test_every_patient_and_study_element_is_taken_over(tmp_path: Path) -> None:
    values = {
        "IssuerOfPatientID": b"HOSPITAL A",
        "PatientBirthTime": b"0102",
        "OtherPatientIDs": b"1\\2",
        "PatientAge": b"056Y",
        "PatientWeight": b"071.50",
        "PatientSize": b"1.7",
        "PatientComments": b"  spaces count ",
        "StudyDescription": b"CT chest",
        "AccessionNumber": b"0007 A",
        "PatientID": b"007^x/..",
    }

    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            put(dataset, keyword, value)

    case = make_case(tmp_path / "series", change=change)
    for content in files(case, tmp_path / "out"):
        short = {key: value for key, value in values.items() if key != "PatientComments"}
        assert [key for key, value in short.items() if encoded(key, value) not in content] == []
        assert b"  spaces count " in content


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_sources_with_nothing_optional_are_answered(state: str, tmp_path: Path) -> None:
    optional = (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PositionReferenceIndicator",
        "SpecificCharacterSet",
        "SliceThickness",
    )

    def change(dataset: Dataset) -> None:
        for keyword in optional:
            if state == "missing":
                delattr(dataset, keyword)
            else:
                put(dataset, keyword, b"")

    case = make_case(tmp_path / "series", change=change)
    for item in case.compose(tmp_path / "out").objects:
        result = pydicom.dcmread(item.path)
        assert not result.PatientName
        assert not result.PatientID
        assert "PatientBirthDate" in result, "type 2: empty, not missing"


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian],
    ids=["explicit", "implicit", "deflated"],
)
def test_study_and_frame_of_reference_are_those_of_the_series(syntax: UID, tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", syntax=syntax)
    seg, sr = (pydicom.dcmread(item.path) for item in case.compose(tmp_path / "out").objects)
    assert seg.FrameOfReferenceUID == case.volume.frame_of_reference_uid
    assert seg.StudyInstanceUID == sr.StudyInstanceUID == case.series.instances[0].study_uid
    assert case.series.series_uid not in {seg.SeriesInstanceUID, sr.SeriesInstanceUID}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientID", "OTHER"), ("PatientName", "Tiny^Serie"), ("StudyInstanceUID", "1.2.3")],
)
def test_another_patient_or_study_is_seen(keyword: str, value: str, tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    original = pydicom.dcmread(case.series.instances[0].path)
    result = pydicom.dcmread(case.compose(tmp_path / "out").objects[0].path)
    assert same_patient_and_study(original, result)
    setattr(result, keyword, value)
    assert not same_patient_and_study(original, result)


def test_a_source_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    first = case.volume.sources[0].sop_instance_uid
    (instance,) = (one for one in case.series.instances if one.sop_instance_uid == first)
    instance.path.unlink()
    with pytest.raises(InputUnavailable, match="cannot be read"):
        case.compose(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_times_are_in_the_time_zone_of_the_study(tmp_path: Path) -> None:
    """Timezone Offset From UTC applies to Study Time too, which is taken over unchanged."""

    def change(dataset: Dataset) -> None:
        dataset.TimezoneOffsetFromUTC = "+0530"

    case = make_case(tmp_path / "series", change=change)
    for item in case.compose(tmp_path / "out").objects:
        result = pydicom.dcmread(item.path)
        assert result.TimezoneOffsetFromUTC == "+0530"
        assert (result.StudyDate, result.StudyTime) == ("20260102", "030405")
        assert (result.ContentDate, result.ContentTime) == ("20260304", "103607")


def test_no_time_zone_is_claimed_for_a_study_without_one(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    for item in case.compose(tmp_path / "out").objects:
        assert "TimezoneOffsetFromUTC" not in pydicom.dcmread(item.path)
