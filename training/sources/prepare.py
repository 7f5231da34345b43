"""Converts the scans of a public data set to a file in the form that training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.errors import SeriesRejected
from chestct.volume import Label
from inference.ports import SegmentationModel
from inference.reading.lungs import lung_labels
from training.chests import volume_of
from training.data import LEFT, RIGHT
from training.grey import CANVAS, SLICE_INPUT, to_slice
from training.sources.layouts import LayoutError, Scan
from training.sources.nifti import LabelledScan, read_scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The record of one volume.

    Attributes:
        refused: Why the volume was left out; None: it is in the file.
    """

    name: str
    patient: str
    slices: int
    with_lesion: int
    lung_source: str
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The part of the file that comes from one volume."""

    record: Prepared
    spacing: tuple[float, float, float]
    images: NDArray[np.uint8]
    sides: NDArray[np.uint8]
    lesion: NDArray[np.uint8]


def prepare(
    dataset: str,
    scans: Iterable[Scan],
    out: Path,
    model: SegmentationModel,
    say: Callable[[Prepared], None],
) -> list[Prepared]:
    """Write the slices of ``scans`` that show lung into ``out``, all at once at the end.

    Where a set has no masks of the lungs, ``model`` makes them; the file says so for each scan
    (``lung_source``). Lesions count as lung. Neighbours in the file are as far apart as those
    that the networks see on live CT (``context_mm``), so thin slices are thinned out. In a pile
    of single slices each is a volume of its own: its neighbours are other patients.

    Returns:
        One record for each volume, also of those in which no lungs were found.

    Raises:
        LayoutError: A file is missing or does not fit, or no scan has lungs.
    """
    done: list[Prepared] = []
    parts: list[_Part] = []
    for scan in scans:
        for volume in _volumes(read_scan(scan)):
            record, part = _prepared(dataset, volume, model)
            if part is not None:
                parts.append(part)
            done.append(record)
            say(record)
    if not parts:
        raise LayoutError(f"no scan of {dataset} shows lungs; {out} was not written")
    _write(out, parts)
    return done


def _prepared(
    dataset: str, scan: LabelledScan, model: SegmentationModel
) -> tuple[Prepared, _Part | None]:
    """Return the record of one volume, and its part of the file unless it is left out."""
    name, patient = f"{dataset}:{scan.name}", f"{dataset}:{scan.patient}"
    try:
        sides, source = _sides(scan, model)
    except SeriesRejected as error:
        refused = Prepared(
            name=name,
            patient=patient,
            slices=0,
            with_lesion=0,
            lung_source=_name(model),
            refused=str(error),
        )
        return refused, None
    chosen = _chosen(scan, sides)
    record = Prepared(
        name=name,
        patient=patient,
        slices=len(chosen),
        with_lesion=int(scan.lesion[chosen].any(axis=(1, 2)).sum()),
        lung_source=source,
        refused=None if chosen else "no slice shows lung",
    )
    if not chosen:
        return record, None
    return record, _Part(
        record=record,
        spacing=scan.spacing,
        images=_images(scan, chosen),
        sides=_shrink(sides[chosen]),
        lesion=_shrink(scan.lesion[chosen].astype(np.uint8)),
    )


def _volumes(scan: LabelledScan) -> Iterator[LabelledScan]:
    """Give the scan, or each slice of a pile of them as a scan of the same patient."""
    if not scan.slices_apart:
        yield scan
        return
    for index in range(len(scan.image)):
        part = slice(index, index + 1)
        yield replace(
            scan,
            name=f"{scan.name}-{index:03}",
            image=scan.image[part],
            lungs=None if scan.lungs is None else scan.lungs[part],
            lesion=scan.lesion[part],
        )


def _chosen(scan: LabelledScan, sides: NDArray[np.uint8]) -> list[int]:
    """Return the slices with lung that are about ``context_mm`` apart."""
    step = max(1, round(SLICE_INPUT.context_mm / scan.spacing[0]))
    inside = np.flatnonzero((sides > 0).any(axis=(1, 2)))
    chosen: list[int] = inside[inside % step == inside[0] % step].tolist() if inside.size else []
    return chosen


def _write(out: Path, parts: list[_Part]) -> None:
    """Replace the file atomically: a stop in between leaves the previous file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    sides = np.concatenate([one.sides for one in parts])
    lesion = np.concatenate([one.lesion for one in parts])
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            ct=np.concatenate([one.images for one in parts]),
            lung=np.packbits(sides > 0, axis=-1),
            lesion=np.packbits(lesion > 0, axis=-1),
            volume=np.repeat(
                np.arange(len(parts), dtype=np.uint16), [part.record.slices for part in parts]
            ),
            sides=sides,
            spacing=np.array([one.spacing for one in parts], dtype=np.float32),
            name=np.array([part.record.name for part in parts]),
            patient=np.array([part.record.patient for part in parts]),
            lung_source=np.array([part.record.lung_source for part in parts]),
        )
    partial.replace(out)


def _sides(scan: LabelledScan, model: SegmentationModel) -> tuple[NDArray[np.uint8], str]:
    """Return uint8 of 0, RIGHT and LEFT with lesions inside, and where it comes from."""
    if scan.lungs is not None:
        sides, source = scan.lungs.copy(), "data set"
    else:
        sides, source = _found(scan, model), _name(model)
    columns = np.arange(sides.shape[2])
    outside = scan.lesion & (sides == 0)
    middle = sides.shape[2] / 2
    sides[outside & (columns < middle)] = RIGHT
    sides[outside & (columns >= middle)] = LEFT
    return sides, source


def _name(model: SegmentationModel) -> str:
    return f"{model.identity.name} {model.identity.version}"


def _found(scan: LabelledScan, model: SegmentationModel) -> NDArray[np.uint8]:
    """Ask the lung network; a single slice gets its raw answer, which no series can clean."""
    image = scan.image
    if scan.window is not None:  # lost HU: as dark and as bright as the network knows lungs
        image = np.interp(image, scan.window, SLICE_INPUT.window).astype(np.float32)
    volume = volume_of(image, scan.spacing)
    if len(image) > 1:
        labels = lung_labels(volume, model)
        sides = np.where(labels == Label.LEFT_LUNG, LEFT, 0)
        return np.where(labels == Label.RIGHT_LUNG, RIGHT, sides).astype(np.uint8)
    found = model.reader(volume).probabilities([0])
    right, left = (found[:, model.classes.index(name)] for name in ("right", "left"))
    side = np.where(right >= left, RIGHT, LEFT)
    return np.where(right + left >= model.threshold, side, 0).astype(np.uint8)


def _images(scan: LabelledScan, slices: list[int]) -> NDArray[np.uint8]:
    image = np.clip(np.round(scan.image), -32768, 32767).astype(np.int16)
    window = scan.window or SLICE_INPUT.window
    planes = [to_slice(image[index], window) for index in slices]
    return np.stack(planes) if planes else np.zeros((0, CANVAS, CANVAS), dtype=np.uint8)


def _shrink(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (CANVAS, CANVAS)
    small = [cv2.resize(one, size, interpolation=cv2.INTER_NEAREST_EXACT) for one in labels]
    return np.array(small, dtype=np.uint8).reshape(len(labels), *size)
