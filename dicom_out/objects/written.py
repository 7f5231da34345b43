"""From a data set to a trusted file: encoded, read back, durable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.valuerep import AMBIGUOUS_VR, VR

from chestct.errors import ResultInvalid
from chestct.results import ResultObject
from chestct.uids import OwnUid, Uid
from chestct.volume import Volume
from dicom_out.objects.patient_study import same_patient_and_study
from dicom_out.objects.sources import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedObject:
    """A result object and the content of its Part 10 file; ``role`` names the file."""

    role: str
    dataset: Dataset
    content: bytes

    def write(self, folder: Path) -> ResultObject:
        """Write the file: after a power cut it is complete or absent.

        Raises:
            OSError: The file cannot be written.
        """
        path = folder / f"{self.role}.dcm"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(self.content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return ResultObject(
            role=self.role,
            path=path,
            sop_class_uid=Uid(self.dataset.SOPClassUID),
            sop_instance_uid=OwnUid(self.dataset.SOPInstanceUID),
            series_uid=OwnUid(self.dataset.SeriesInstanceUID),
            study_uid=Uid(self.dataset.StudyInstanceUID),
            digest=sha256(self.content).hexdigest(),
            size=len(self.content),
        )


def encode(role: str, dataset: Dataset) -> EncodedObject:
    """Encode a data set in explicit VR little endian."""
    _claim(dataset, [])
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return EncodedObject(role=role, dataset=dataset, content=buffer.getvalue())


def _claim(dataset: Dataset, ancestors: list[Dataset]) -> None:
    """Let a data set and its items claim to have been read in the encoding that is written.

    Without the claim, pydicom decodes encoded elements when it writes them, and visits each item
    once more for each sequence around it. The claim keeps the copied patient and study byte for
    byte.
    """
    ancestors = [dataset, *ancestors]
    for element in dataset.elements():
        if not isinstance(element, DataElement):
            continue  # encoded already
        if element.VR == VR.SQ:
            for item in element.value or ():
                _claim(item, ancestors)
        elif element.VR in AMBIGUOUS_VR:
            correct_ambiguous_vr_element(element, dataset, True, ancestors)  # noqa: FBT003
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=dataset._character_set,  # noqa: SLF001 - pydicom compares the claim with it
    )


def verify(encoded: EncodedObject, sources: Sources, volume: Volume) -> None:
    """Check that a file names the patient, study and frame of reference of its source.

    Raises:
        ResultInvalid: The file does not.
    """
    result = pydicom.dcmread(BytesIO(encoded.content))
    if not same_patient_and_study(sources.original, result):
        raise ResultInvalid(
            f"the {encoded.role} does not carry the patient and study of its series"
        )
    frame_of_reference = volume.frame_of_reference_uid
    if result.get("FrameOfReferenceUID", frame_of_reference) != frame_of_reference:
        raise ResultInvalid(f"the {encoded.role} is not in the frame of reference of its series")
