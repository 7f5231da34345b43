"""Writes the result objects of one analysis, and trusts them only after reading them back."""

from __future__ import annotations

import os
from datetime import datetime
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr

from chestct.errors import ResultInvalid
from chestct.findings import Findings
from chestct.results import AnalysisKey, ModelIdentity, ResultObject, ResultReference, ResultSet
from chestct.series import Series
from chestct.uids import Uid
from chestct.volume import LesionMap, Volume
from dicom_out.identity import SoftwareIdentity
from dicom_out.seg import build_seg, planned_segments, segment_numbers
from dicom_out.sources import Sources, read_sources, same_patient_and_study
from dicom_out.sr import build_sr

__all__ = ["SoftwareIdentity", "compose", "warm_up"]


def compose(
    *,
    series: Series,
    volume: Volume,
    lesion_map: LesionMap,
    findings: Findings,
    models: tuple[ModelIdentity, ...],
    key: AnalysisKey,
    predecessor: ResultReference | None,
    folder: Path,
    created: datetime,
    software: SoftwareIdentity,
) -> ResultSet:
    """Write ``seg.dcm`` and ``sr.dcm`` into ``folder`` and return them, SEG first.

    ``models`` are the lung and the lesion model. The same arguments give the same objects.

    Raises:
        ResultInvalid: An object does not read back as what was computed.
        OSError: The files cannot be written.
    """
    sources = read_sources(series, volume)
    seg = build_seg(
        sources=sources,
        lesion_map=lesion_map,
        models=models,
        parameters=_parameters(findings),
        key=key,
        created=created,
        software=software,
    )
    seg_file = encode(seg)  # before anything reads in it: what was read is encoded anew
    sr = build_sr(
        sources=sources,
        seg=seg,
        volume=volume,
        lesion_map=lesion_map,
        findings=findings,
        models=models,
        key=key,
        predecessor=predecessor,
        created=created,
        software=software,
    )
    sr_file = encode(sr)
    _verify(seg_file, sources, volume)
    _verify(sr_file, sources, volume)
    _verify_mask(seg_file, lesion_map, sources)
    return ResultSet(
        key=key,
        objects=(
            _write(folder / "seg.dcm", "seg", seg_file, seg),
            _write(folder / "sr.dcm", "sr", sr_file, sr),
        ),
    )


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


def _verify(content: bytes, sources: Sources, volume: Volume) -> None:
    """Check that a file names the patient, study and frame of reference of its source."""
    result = pydicom.dcmread(BytesIO(content))
    if not same_patient_and_study(sources.original, result):
        raise ResultInvalid("a result does not carry the patient and study of its series")
    if result.get("FrameOfReferenceUID", volume.frame_of_reference_uid) != (
        volume.frame_of_reference_uid
    ):
        raise ResultInvalid("a result is not in the frame of reference of its series")


def _verify_mask(content: bytes, lesion_map: LesionMap, sources: Sources) -> None:
    """Check voxel by voxel that the SEG holds the label map, slice by source slice."""
    seg = hd.seg.segread(BytesIO(content))
    plans = planned_segments(lesion_map)
    wanted = segment_numbers(lesion_map, plans)
    if len(sources.images) > 1:
        found = seg.get_pixels_by_source_instance(
            [image.SOPInstanceUID for image in sources.images],
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    else:
        found = seg.get_pixels_by_source_frame(
            sources.images[0].SOPInstanceUID,
            [frame + 1 for frame in sources.frames],
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    if not np.array_equal(found, wanted):
        raise ResultInvalid("the SEG does not hold the mask that was computed")


def _write(path: Path, role: str, content: bytes, dataset: Dataset) -> ResultObject:
    """Write a file so that it is there whole or not at all, also after a power cut."""
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
        sop_instance_uid=Uid(dataset.SOPInstanceUID),
        series_uid=Uid(dataset.SeriesInstanceUID),
        study_uid=Uid(dataset.StudyInstanceUID),
    )


def warm_up() -> None:
    """Load highdicom's IOD tables now (0.6 s) rather than with the first result."""
    get_iod_module_map()
    get_module_attribute_map()


def _parameters(findings: Findings) -> dict[str, str]:
    """Return what the algorithm was told, for Algorithm Parameters (0066,0032)."""
    method = findings.method
    stated = {"minimum_lesion_ml": f"{method.minimum_lesion_ml:g}"}
    if method.minimum_lesion_hu is not None:
        stated["minimum_lesion_hu"] = f"{method.minimum_lesion_hu:g}"
    return stated | {"operating_point": f"{findings.presence.operating_point:g}"}
