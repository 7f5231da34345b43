"""From a data set to a file that can be trusted: encoded, read back, durable."""

from __future__ import annotations

import os
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr

from chestct.errors import ResultInvalid
from chestct.results import ResultObject
from chestct.uids import OwnUid, Uid
from chestct.volume import Volume
from dicom_out.objects.sources import Sources, same_patient_and_study


def encode(dataset: Dataset) -> bytes:
    """Return the Part 10 file of a data set, explicit VR little endian.

    What was taken over from the source undecoded stays so: pydicom decodes raw elements when
    it writes, unless the data set claims to have been read in the encoding that is written.
    """
    correct_ambiguous_vr(dataset, is_little_endian=True)
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=dataset._character_set,  # noqa: SLF001 - what the claim is compared with
    )
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def verify(content: bytes, sources: Sources, volume: Volume) -> None:
    """Check that a file names the patient, study and frame of reference of its source.

    Raises:
        ResultInvalid: It does not.
    """
    result = pydicom.dcmread(BytesIO(content))
    if not same_patient_and_study(sources.original, result):
        raise ResultInvalid("a result does not carry the patient and study of its series")
    if result.get("FrameOfReferenceUID", volume.frame_of_reference_uid) != (
        volume.frame_of_reference_uid
    ):
        raise ResultInvalid("a result is not in the frame of reference of its series")


def write(path: Path, role: str, content: bytes, dataset: Dataset) -> ResultObject:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Raises:
        OSError: It cannot be written.
    """
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return ResultObject(
        role=role,
        path=path,
        sop_class_uid=Uid(dataset.SOPClassUID),
        sop_instance_uid=OwnUid(dataset.SOPInstanceUID),
        series_uid=OwnUid(dataset.SeriesInstanceUID),
        study_uid=Uid(dataset.StudyInstanceUID),
        digest=sha256(content).hexdigest(),
        size=len(content),
    )
