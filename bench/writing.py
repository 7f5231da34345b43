"""Measures the time and size of SEG and SR of one series: built, verified and written to disk.

``python bench/writing.py [--slices 400] [--size 512] [--rounds 5] [--healthy]`` writes a series
with empty pixels into a temporary directory (only its headers are read), draws lungs and lesions on
its grid, and composes the results repeatedly in one process. The first round includes the
warm-up of a node before its first series; the median is that of the other rounds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from chestct.analysed import AnalysedSeries
from chestct.geometry import Geometry
from chestct.method import Method, Presence
from chestct.results import AnalysisKey, ModelIdentity, Profile, SoftwareIdentity
from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid, derive_uid
from chestct.volume import Label, LesionMap, SliceSource, Volume, is_lesion
from dicom_out.objects.compose import compose, warm_up
from dicom_out.objects.sources import read_sources
from inference.reading.quantify import measure

_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
_KIND = Uid(CTImageStorage)
_SERIES, _STUDY, _FRAME = (derive_uid("bench", role) for role in ("series", "study", "frame"))
_MODELS = (
    ModelIdentity(name="lungs", version="1", digest="0" * 64, licence="-"),
    ModelIdentity(name="lesions", version="1", digest="1" * 64, licence="-"),
)
_SOFTWARE = SoftwareIdentity(name="Rales", version="0", station_name="BENCH")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--healthy", action="store_true", help="lungs without lesions")
    arguments = parser.parse_args()
    labels = _labels(arguments.slices, arguments.size, lesions=not arguments.healthy)
    with TemporaryDirectory(prefix="rales-bench-") as name:
        _run(Path(name), labels, arguments.rounds)


def _analysed(folder: Path, labels: NDArray[np.uint8]) -> AnalysedSeries:
    """Write the series and return what an analysis of it says."""
    geometry = Geometry(
        shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
        origin=(-180.0, -180.0, -200.0),
        row_cosines=(1.0, 0.0, 0.0),
        column_cosines=(0.0, 1.0, 0.0),
        pixel_spacing=(360.0 / labels.shape[1], 360.0 / labels.shape[2]),
        slice_spacing=1.0,
    )
    series, sources = _write(folder, geometry)
    noise = np.random.default_rng(1).integers(-250, 250, labels.shape[1:])
    volume = Volume(
        hu=np.where(is_lesion(labels), noise - 350, -850).astype(np.int16),
        geometry=geometry,
        sources=sources,
        series_uid=_SERIES,
        frame_of_reference_uid=_FRAME,
    )
    lesion_map = LesionMap(labels=labels, geometry=geometry)
    score = 0.9 if lesion_map.lesion().any() else 0.1
    findings = measure(volume, lesion_map, Presence(score=score, operating_point=0.5), Method())
    return AnalysedSeries(
        series=series,
        volume=volume,
        lesion_map=lesion_map,
        findings=findings,
        models=_MODELS,
        software=_SOFTWARE,
        key=AnalysisKey(
            series_uid=_SERIES,
            instances_digest=series.digest,
            models_digest="bench",
            config_digest="0",
        ),
        created=_CREATED,
    )


def _run(folder: Path, labels: NDArray[np.uint8], rounds: int) -> None:
    analysed = _analysed(folder, labels)
    start, cpu = time.perf_counter(), 0.0
    warm_up()
    warming = time.perf_counter() - start
    seconds = []
    for number in range(rounds + 1):
        start, cpu = time.perf_counter(), time.process_time()
        key = replace(analysed.key, config_digest=str(number))
        current = replace(analysed, key=key)
        sources = read_sources(current.series, current.volume)
        objects = compose(current, sources, folder, (Profile.OHIF,))
        seconds.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shape = " by ".join(str(side) for side in labels.shape)
    sizes = ", ".join(f"{item.role} {item.path.stat().st_size / 1e6:.1f} MB" for item in objects)
    print(f"| {shape} voxels, {len(analysed.findings.lesions)} lesions | |\n|---|---|")
    print(f"| warm-up of the node | {warming:.2f} s |")
    print(f"| first SEG and SR | {seconds[0]:.2f} s |")
    warm = statistics.median(seconds[1:])
    print(f"| SEG and SR, median of {rounds} ({sizes}) | {warm:.2f} s |")
    print(f"| processor time of the last round | {cpu:.2f} s |")
    print(f"| peak of memory | {peak:.0f} MB |")
    if (dcmqi := _dcmqi(folder, analysed)) is None:
        print("dcmqi's itkimage2segimage is not installed: no comparison")
        return
    print(f"| dcmqi itkimage2segimage, SEG alone, whole process | {dcmqi:.2f} s |")
    print(f"| Rales / dcmqi | {warm / dcmqi:.2f} |")


def _dcmqi(folder: Path, analysed: AnalysedSeries) -> float | None:
    """Return the seconds in which dcmqi writes the SEG of the same mask; None without dcmqi."""
    program = Path(sys.executable).with_name("itkimage2segimage")
    if not program.exists():
        return None
    labels, geometry = analysed.lesion_map.labels, analysed.volume.geometry
    (rows, columns), depth = geometry.pixel_spacing, geometry.slice_spacing
    mask, words = folder / "mask.nrrd", folder / "mask.json"
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {labels.shape[2]} {labels.shape[1]} {labels.shape[0]}\n"
        f"space directions: ({columns},0,0) (0,{rows},0) (0,0,{depth})\n"
        "kinds: domain domain domain\nendian: little\nencoding: raw\n"
        f"space origin: ({','.join(map(str, geometry.origin))})\n\n"
    )
    mask.write_bytes(header.encode() + labels.tobytes())
    code = {"CodeValue": "39607008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lung"}
    segments = [
        {
            "labelID": int(label),
            "SegmentDescription": f"Segment {label}",
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "bench",
            "SegmentedPropertyCategoryCodeSequence": code,
            "SegmentedPropertyTypeCodeSequence": code,
            "recommendedDisplayRGBValue": [0, 255, 0],
        }
        for label in np.unique(labels[labels > 0])
    ]
    words.write_text(json.dumps({"SeriesNumber": "1", "segmentAttributes": [segments]}))
    images = [str(instance.path) for instance in analysed.series.instances]
    command = [program, "--inputImageList", mask, "--inputMetadata", words, "--skip", "1"]
    command += ["--inputDICOMList", ",".join(images), "--outputDICOM", folder / "dcmqi.dcm"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    frames = pydicom.dcmread(folder / "dcmqi.dcm", stop_before_pixels=True).NumberOfFrames
    assert frames == sum(len(np.unique(plane)) - 1 for plane in labels)
    return seconds


def _labels(slices: int, size: int, *, lesions: bool) -> NDArray[np.uint8]:
    """Return two ellipsoids with balls as lesions, of about the volume of real lungs."""
    z, y, x = (np.linspace(-1, 1, count) for count in (slices, size, size))
    labels = np.zeros((slices, size, size), np.uint8)
    for index in range(slices):
        for sign, lung in ((1, Label.LEFT_LUNG), (-1, Label.RIGHT_LUNG)):
            across, deep = np.meshgrid((x - sign * 0.42) / 0.33, y / 0.55)
            inside = across**2 + deep**2 + (z[index] / 0.85) ** 2 < 1
            labels[index][inside] = lung
            if lesions:
                ball = (across - 0.3) ** 2 + (deep - 0.4) ** 2 + (z[index] / 0.85 + 0.3) ** 2
                labels[index][inside & (ball < 1 / 16)] = lung + 2
                labels[index][inside & (ball < 1 / 64)] = lung + 4
    return labels


def _write(folder: Path, geometry: Geometry) -> tuple[Series, tuple[SliceSource, ...]]:
    count, rows, columns = geometry.shape
    instances, sources = [], []
    for index in range(count):
        uid = derive_uid("bench", "instance", str(index))
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.SOPClassUID, dataset.SOPInstanceUID = _KIND, uid
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _STUDY, _SERIES
        dataset.FrameOfReferenceUID, dataset.Modality = _FRAME, "CT"
        dataset.PatientName, dataset.PatientID = "Bench^Series", "BENCH"
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = list(geometry.slice_position(index))
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = list(geometry.pixel_spacing)
        dataset.SliceThickness = 1
        dataset.Rows, dataset.Columns = rows, columns
        dataset.PixelData = bytes(2 * rows * columns)
        dataset["PixelData"].VR = "OW"
        path = folder / f"{index:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        instances.append(
            ReceivedInstance(
                path=path,
                sop_class_uid=_KIND,
                sop_instance_uid=uid,
                series_uid=_SERIES,
                study_uid=_STUDY,
                patient_key="",
                transfer_syntax_uid=Uid(ExplicitVRLittleEndian),
                content_digest="",
                size=0,
                received_at=_CREATED,
                calling_ae="",
            )
        )
        sources.append(SliceSource(sop_class_uid=_KIND, sop_instance_uid=uid))
    return Series.of(instances), tuple(sources)


if __name__ == "__main__":
    main()
