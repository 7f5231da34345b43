"""Scans of a public data set to one file in the form that training reads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.volume import Label
from inference.lungs import delineate
from inference.phantom.volume import canonical_volume
from inference.ports import SegmentationModel
from inference.preprocess import to_grey
from inference.training.data import LEFT, RIGHT
from inference.training.phantoms import LIVE_INPUT
from inference.training.sources.layouts import Scan
from inference.training.sources.nifti import LabelledScan, read_scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What became of one scan."""

    name: str
    patient: str
    slices: int
    with_lesion: int
    lung_source: str


def prepare(
    dataset: str,
    scans: Iterable[Scan],
    out: Path,
    model: SegmentationModel,
    say: Callable[[Prepared], None],
) -> list[Prepared]:
    """Write the slices of ``scans`` that show lung into ``out``, all at once at the end.

    Where a set has no masks of the lungs, ``model`` makes them; the file says so for each scan
    (``lung_source``). Lesions count as lung.

    Raises:
        LayoutError: A file is missing or does not fit.
        SeriesRejected: A scan has no lungs.
    """
    done: list[Prepared] = []
    parts: dict[str, list[NDArray[np.uint8]]] = {"ct": [], "sides": [], "lesion": []}
    volumes: list[int] = []
    spacings: list[tuple[float, float, float]] = []
    for scan in scans:
        labelled = read_scan(scan)
        sides, source = _sides(labelled, model)
        inside = np.flatnonzero((sides > 0).any(axis=(1, 2))).tolist()
        parts["ct"].append(_images(labelled, inside))
        parts["sides"].append(_shrink(sides[inside]))
        parts["lesion"].append(_shrink(labelled.lesion[inside].astype(np.uint8)))
        volumes += [len(done)] * len(inside)
        spacings.append(labelled.spacing)
        done.append(
            Prepared(
                name=f"{dataset}:{scan.name}",
                patient=f"{dataset}:{scan.patient}",
                slices=len(inside),
                with_lesion=int(labelled.lesion[inside].any(axis=(1, 2)).sum()),
                lung_source=source,
            )
        )
        say(done[-1])
    _write(
        out, {name: np.concatenate(part) for name, part in parts.items()}, volumes, spacings, done
    )
    return done


def _write(
    out: Path,
    arrays: dict[str, NDArray[np.uint8]],
    volumes: list[int],
    spacings: list[tuple[float, float, float]],
    done: list[Prepared],
) -> None:
    """Write the file beside its place first: a stop in between leaves the one before."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out.parent, suffix=".partial", delete=False) as file:
        np.savez_compressed(
            file,
            ct=arrays["ct"],
            lung=np.packbits(arrays["sides"] > 0, axis=-1),
            lesion=np.packbits(arrays["lesion"] > 0, axis=-1),
            volume=np.array(volumes, dtype=np.uint16),
            sides=arrays["sides"],
            spacing=np.array(spacings, dtype=np.float32),
            name=np.array([one.name for one in done]),
            patient=np.array([one.patient for one in done]),
            lung_source=np.array([one.lung_source for one in done]),
        )
    Path(file.name).replace(out)


def _sides(scan: LabelledScan, model: SegmentationModel) -> tuple[NDArray[np.uint8], str]:
    """Return uint8 of 0, RIGHT and LEFT with lesions inside, and where it comes from."""
    if scan.lungs is not None:
        sides, source = scan.lungs.copy(), "data set"
    elif scan.slices_apart:
        found = [_found(_slice_of(scan, index), model) for index in range(len(scan.image))]
        sides, source = np.concatenate(found), _name(model)
    else:
        sides, source = _found(scan, model), _name(model)
    columns = np.arange(sides.shape[2])
    outside = scan.lesion & (sides == 0)
    middle = sides.shape[2] / 2
    sides[outside & (columns < middle)] = RIGHT
    sides[outside & (columns >= middle)] = LEFT
    return sides, source


def _slice_of(scan: LabelledScan, index: int) -> LabelledScan:
    part = slice(index, index + 1)
    return replace(scan, image=scan.image[part], lesion=scan.lesion[part])


def _name(model: SegmentationModel) -> str:
    return f"{model.identity.name} {model.identity.version}"


def _found(scan: LabelledScan, model: SegmentationModel) -> NDArray[np.uint8]:
    """Ask the lung network; a single slice gets its raw answer, which no series can clean."""
    hu = np.clip(np.round(scan.image), -1024, 3071).astype(np.int16)
    volume = canonical_volume(hu, scan.spacing, (0.0, 0.0, 0.0))
    if len(hu) > 1:
        labels = delineate(volume, model, lambda _part: None).labels
        sides = np.where(labels == Label.LEFT_LUNG, LEFT, 0)
        return np.where(labels == Label.RIGHT_LUNG, RIGHT, sides).astype(np.uint8)
    found = model.reader(volume).probabilities([0])
    right, left = (found[:, model.classes.index(name)] for name in ("right", "left"))
    side = np.where(right >= left, RIGHT, LEFT)
    return np.where(right + left >= model.threshold, side, 0).astype(np.uint8)


def _images(scan: LabelledScan, slices: list[int]) -> NDArray[np.uint8]:
    contract = LIVE_INPUT
    if scan.window is not None:
        contract = contract.model_copy(update={"window": scan.window})
    image = np.clip(np.round(scan.image), -32768, 32767).astype(np.int16)
    planes = [to_grey(image[index], contract) for index in slices]
    size = (LIVE_INPUT.rows, LIVE_INPUT.columns)
    return np.stack(planes) if planes else np.zeros((0, *size), dtype=np.uint8)


def _shrink(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (LIVE_INPUT.columns, LIVE_INPUT.rows)
    small = [cv2.resize(one, size, interpolation=cv2.INTER_NEAREST_EXACT) for one in labels]
    return np.array(small, dtype=np.uint8).reshape(len(labels), size[1], size[0])
