"""Names arrive byte for byte in every transfer syntax, over the network, also broken ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chest_cases import make_case
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from sending import send

from chestct.results import Profile
from dicom_out.encodings import data_set_of
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind

pytestmark = pytest.mark.slow

KINDS = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.88.34",
)
NAMES = {
    "UTF-8 declared as Latin-1": (b"ISO_IR 100", "Šťastný^Jiří".encode()),
    "Latin-1 declared as UTF-8": (b"ISO_IR 192", b"M\xfcller^J\xf6rg"),
    "none declared": (None, b"M\xfcller^J\xf6rg"),
    "a broken escape": (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3E\x1b(B^\x1b$Z"),
    "half a character": (b"GB18030", b"Wang=\x81"),
    "no character set at all": (b"NONSENSE", b"\xff\xfe\x80^X"),
    "a codec that is none": (b"utf_7", b"+2AA-^X"),
}


def put(dataset: Dataset, keyword: str, value: bytes) -> None:
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    dataset._dict[tag] = RawDataElement(
        tag=tag,
        VR=dictionary_VR(tag),
        length=len(value),
        value=value,
        value_tell=0,
        is_implicit_VR=False,
        is_little_endian=True,
    )


@pytest.mark.filterwarnings("ignore:.*(encoding|Specific Character Set):UserWarning")
@pytest.mark.filterwarnings("ignore:Incorrect value for Specific Character Set:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_names_arrive_as_they_came(
    name: str, tmp_path: Path, start_scp: Callable[..., Destination]
) -> None:
    character_set, patient = NAMES[name]

    def change(dataset: Dataset) -> None:
        del dataset.SpecificCharacterSet
        if character_set is not None:
            put(dataset, "SpecificCharacterSet", character_set)
        put(dataset, "PatientName", patient)
        put(dataset, "StudyDescription", patient)

    case = make_case(tmp_path / "series", change=change)
    objects = case.compose(tmp_path / "out", Profile.OHIF, Profile.LABELMAP).objects
    padded = patient + b" " * (len(patient) % 2)
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ):
        arrived: list[tuple[str, bytes]] = []

        def store(event: Any, arrived: list[tuple[str, bytes]] = arrived) -> int:
            arrived.append((event.request.AffectedSOPInstanceUID, event.request.DataSet.getvalue()))
            return 0x0000

        scp = replace(start_scp(store, kinds=KINDS, syntaxes=(syntax,)), compress=True)
        outcomes = send(objects, scp, calling_ae="RALES", timeout_seconds=20)
        by_uid = {str(one.sop_instance_uid): one for one in objects}
        taken = [one.kind for one in outcomes].count(OutcomeKind.DELIVERED)
        assert taken == len(arrived) >= 1, [one.message for one in outcomes]
        for uid, content in arrived:
            plain = data_set_of(by_uid[uid].path.read_bytes())
            header = struct.pack("<HH", 0x0010, 0x0010)
            if syntax == DeflatedExplicitVRLittleEndian:
                assert zlib.decompress(content, -zlib.MAX_WBITS) == plain
            elif syntax == ExplicitVRLittleEndian:
                assert content == plain
            elif syntax == ImplicitVRLittleEndian:
                assert header + struct.pack("<I", len(padded)) + padded in content
            else:
                begin = plain.index(b"\xe0\x7f\x10\x00")
                assert content[:begin] == plain[:begin]
