"""Reads real CT without truth, with pictures to judge the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from scipy import ndimage

from chestct.geometry import Geometry
from chestct.orientation import canonical
from chestct.uids import Uid
from chestct.volume import Volume
from inference.loading.decoder_process import DecoderProcess
from inference.loading.frames import frames_of
from inference.loading.headers import slice_headers
from inference.loading.pixels import StoredFrames, to_hu
from inference.ports import ModelSet
from inference.reading.presence import certain, decide
from training.metrics import Mask
from training.readings.reading import read_volume
from training.report.cases import map_of, probability_alone
from training.report.gallery import Tile, box_of, grey
from training.report.records import SeriesRecord, SingleRecord
from training.report.slices import percent

_BODY_HU = -300
_SPREAD, _FULLEST = 4, 4
_APART = 4
"""Slices between two that are shown for their lesions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReading:
    """A series and pictures of it: some slices over the lungs, and those with most lesion."""

    record: SeriesRecord
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleReading:
    """A single slice and its picture."""

    record: SingleRecord
    tile: Tile


def read_series(name: str, volume: Volume, models: ModelSet) -> SeriesReading:
    """Analyse a real series as the node would; a refused series has no lungs and no pictures."""
    reading = read_volume(volume, models, lambda _stage, _part: None)
    findings = reading.analysis.findings if reading.analysis else None
    labels = map_of(reading, volume)
    lungs, lesion = labels.left_lung() | labels.right_lung(), labels.lesion()
    outside = sum(int((lungs[k] & ~_body(volume, k)).sum()) for k in range(len(lungs)))
    return SeriesReading(
        record=SeriesRecord(
            name=name,
            slices=len(lungs),
            slice_spacing_mm=volume.geometry.slice_spacing,
            call=str(reading.call),
            reason=reading.obstacle.message if reading.obstacle else None,
            score=findings.presence.score if findings else None,
            lung_ml=findings.covered.volume_ml if findings else 0.0,
            lesion_ml=findings.covered.lesion_ml if findings else 0.0,
            involved_percent=findings.covered.involved_percent if findings else 0.0,
            lesions=len(findings.lesions) if findings else 0,
            outside_body_ml=outside * volume.geometry.voxel_ml,
            quality_flags=findings.quality_flags if findings else (),
            seconds=sum(reading.seconds.values()),
        ),
        tiles=tuple(
            _tile(volume, lungs[index], lesion[index], index, (f"{name}", f"slice {index + 1}"))
            for index in (_shown(lungs, lesion) if findings else ())
        ),
    )


def _body(volume: Volume, index: int) -> Mask:
    """Return the largest dense region of a slice with everything inside it."""
    parts, count = ndimage.label(volume.hu[index] > _BODY_HU)
    if not count:
        return np.zeros(parts.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body: Mask = ndimage.binary_fill_holes(parts == sizes.argmax())
    return body


def _shown(lungs: Mask, lesion: Mask) -> list[int]:
    """Choose slices evenly over the lungs, and beside them those with most lesion."""
    inside = np.flatnonzero(lungs.any(axis=(1, 2)))
    places = np.linspace(0, inside.size - 1, _SPREAD + 2)[1:-1]
    chosen: list[int] = inside[np.round(places).astype(int)].tolist()
    areas = lesion.sum(axis=(1, 2))
    for index in np.argsort(-areas, kind="stable").tolist():
        if len(chosen) == _SPREAD + _FULLEST or areas[index] == 0:
            break
        if all(abs(index - one) >= _APART for one in chosen):
            chosen.append(index)
    return sorted(chosen, reverse=True)


def _tile(volume: Volume, lungs: Mask, lesion: Mask, index: int, caption: tuple[str, str]) -> Tile:
    box = box_of(lungs, lesion)
    return Tile(
        image=grey(volume.hu[index])[box],
        found=lesion[box],
        truth=None,
        lungs=lungs[box],
        caption=caption,
        group=caption[0],
        place=index,
        badness=0.0,
    )


def read_single(path: Path, models: ModelSet) -> SingleReading:
    """Run the networks alone on a single axial image: too little for the live path.

    Raises:
        SeriesRejected: It is no image with geometry and Hounsfield units.
    """
    volume = single_volume(path)
    rule = models.lesions.presence
    assert rule is not None, "the manifest of a lesion model has a presence rule"
    lungs = probability_alone(models.lungs, volume, [0])[0] >= models.lungs.threshold
    probability = probability_alone(models.lesions, volume, [0])[0]
    lesion = (probability >= models.lesions.threshold) & lungs
    pixel_mm2 = float(np.prod(volume.geometry.pixel_spacing))
    record = SingleRecord(
        name=path.stem,
        patient=path.stem.split("-")[0],
        score=decide(
            [certain(probability, lungs, rule.certainty).sum() * volume.geometry.voxel_ml], rule
        ).score,
        lung_cm2=float(lungs.sum()) * pixel_mm2 / 100,
        lesion_cm2=float(lesion.sum()) * pixel_mm2 / 100,
        involved_percent=percent(lesion, lungs),
    )
    caption = (path.stem, f"{record.involved_percent:.0f} % of the lung, score {record.score:.2f}")
    return SingleReading(record=record, tile=_tile(volume, lungs, lesion, 0, caption))


def single_volume(path: Path) -> Volume:
    """Return one axial image as a volume of one slice.

    Raises:
        SeriesRejected: It is no image with geometry and Hounsfield units.
    """
    dataset = pydicom.dcmread(path)
    (header,) = slice_headers(frames_of([dataset]))
    hu = np.empty((1, header.rows, header.columns), dtype=np.int16)
    with DecoderProcess() as decoder:
        stored = StoredFrames(dataset, decoder).values(0)
    to_hu(stored, header, hu[0])
    volume = Volume(
        hu=hu,
        geometry=Geometry(
            shape=(1, header.rows, header.columns),
            origin=header.position,
            row_cosines=header.row_cosines,
            column_cosines=header.column_cosines,
            pixel_spacing=header.pixel_spacing,
            slice_spacing=header.thickness_mm or 1.0,
        ),
        sources=(header.source,),
        series_uid=Uid(dataset.SeriesInstanceUID),
        frame_of_reference_uid=Uid(dataset.FrameOfReferenceUID),
    )
    return canonical(volume)
