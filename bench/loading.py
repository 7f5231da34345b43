"""Measures the time from files to a Hounsfield volume, and a ``dcmread`` + ``pixel_array`` loop.

``python bench/loading.py [--slices 400] [--size 512] [--rounds 5] [--syntax implicit]`` writes a
series of noise into a temporary directory and reads it alternately in both ways. Each reading has
its own process, so that peak memory is that of one reading. Compare the ratio: the seconds depend
on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid, derive_uid
from inference.loading.loader import LoadingPolicy, load

_SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--syntax", choices=_SYNTAXES, default="explicit")
    parser.add_argument("--read", choices=("rales", "naive"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(_read(arguments.read, arguments.folder)))
        return
    with TemporaryDirectory(prefix="rales-bench-") as name:
        _write(Path(name), arguments)
        _compare(Path(name), arguments.rounds)


def _compare(folder: Path, rounds: int) -> None:
    runs: dict[str, list[dict[str, float]]] = {"naive": [], "rales": []}
    for _ in range(rounds):
        for way, results in runs.items():
            command = [sys.executable, __file__, "--read", way, "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
    middle = {way: _median(results, "seconds") for way, results in runs.items()}
    for way, results in runs.items():
        peak = _median(results, "peak_mb")
        print(f"{way:6} {middle[way]:6.2f} s   {peak:6.0f} MB peak   median of {rounds}")
    print(f"ratio  {middle['rales'] / middle['naive']:.2f}")


def _median(results: list[dict[str, float]], key: str) -> float:
    return statistics.median(result[key] for result in results)


def _read(way: str, folder: Path) -> dict[str, float]:
    paths = sorted(folder.iterdir())
    series = _series(paths)
    start = time.perf_counter()
    if way == "naive":
        datasets = sorted(
            (pydicom.dcmread(path) for path in paths),
            key=lambda dataset: float(dataset.ImagePositionPatient[2]),
        )
        hu = np.empty((len(datasets), datasets[0].Rows, datasets[0].Columns), np.int16)
        for index, dataset in enumerate(datasets):
            slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
            hu[index] = dataset.pixel_array * slope + intercept
    else:
        load(series, LoadingPolicy())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak}


def _series(paths: list[Path]) -> Series:
    return Series.of(
        ReceivedInstance(
            path=path,
            sop_class_uid=Uid(CTImageStorage),
            sop_instance_uid=derive_uid(path.name),
            series_uid=derive_uid("bench series"),
            study_uid=derive_uid("bench study"),
            patient_key="",
            transfer_syntax_uid=Uid(ExplicitVRLittleEndian),
            content_digest="",
            size=0,
            received_at=datetime(2026, 1, 1, tzinfo=UTC),
            calling_ae="",
        )
        for path in paths
    )


def _write(folder: Path, arguments: argparse.Namespace) -> None:
    """Write a smooth field with noise, which costs codecs as much as a thorax."""
    size, random = arguments.size, np.random.default_rng(1)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = np.where(np.hypot(rows, columns) < 0.8, 1040, 0)  # noqa: PLR2004 - soft tissue in air
    for index in range(arguments.slices):
        name = f"{index:04d}.dcm"
        dataset = _dataset(size, index, derive_uid(name))
        pixels = np.clip(body + random.normal(0, 20, body.shape), 0, 4095)
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        syntax = _SYNTAXES[arguments.syntax]
        if syntax.is_encapsulated:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(
            folder / name,
            enforce_file_format=True,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=True,
        )


def _dataset(size: int, index: int, uid: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid
    dataset.Modality, dataset.BodyPartExamined = "CT", "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = derive_uid("bench frame")
    dataset.ImagePositionPatient = [-180, -180, index]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    return dataset


if __name__ == "__main__":
    main()
