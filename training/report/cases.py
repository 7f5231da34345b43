"""The live path on scans with exact truth: phantoms, and synthetic lesions in real lungs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chestct.errors import SeriesRejected
from chestct.method import Method
from chestct.volume import LesionMap, Volume
from inference.ports import ModelSet, SegmentationModel
from inference.reading.analysis import Analysis, analyse
from inference.reading.postprocess import suppress_aerated
from inference.reading.presence import OPERATING_POINT
from inference.reading.readers import probabilities_on_slices
from phantom import PhantomSpec, make_thorax
from training.metrics import (
    LesionCount,
    Mask,
    Overlap,
    count_lesions,
    dice,
    distances,
    false_lesions,
    overlap,
    surface_gaps,
)
from training.plain import make_plain
from training.readings.reading import Reading
from training.report.gallery import Tile, box_of, grey
from training.report.records import CaseRecord, Source
from training.report.slices import percent
from training.synthetic import real_cases


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scan whose truth is known exactly.

    Attributes:
        volume: HU.
        lesion: bool (slice, row, column); empty in a lesion-free case.
        lungs: bool, lesions included.
    """

    name: str
    source: Source
    volume: Volume
    lesion: Mask
    lungs: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReading:
    """The record of a case, and pictures of its worst slices."""

    record: CaseRecord
    worst: tuple[Tile, ...]
    false: tuple[Tile, ...]


def phantom_cases(specs: Sequence[PhantomSpec]) -> Iterator[Case]:
    """Yield phantoms lazily."""
    for spec in specs:
        thorax = make_thorax(spec)
        yield Case(
            name=f"phantom {spec.seed}",
            source=Source.PHANTOM,
            volume=thorax.volume(),
            lesion=thorax.lesion > 0,
            lungs=thorax.left_lung | thorax.right_lung,
        )


def plain_cases(seeds: Sequence[int]) -> Iterator[Case]:
    """Yield plain chests lazily; every third chest has no lesion."""
    for seed in seeds:
        chest = make_plain(seed, lesions=seed % 3 != 0)
        yield Case(
            name=f"plain chest {seed}",
            source=Source.PLAIN,
            volume=chest.volume(),
            lesion=chest.lesion,
            lungs=chest.sides > 0,
        )


def synthetic_cases(
    folder: Path, seeds: range, source: Source, lungs: SegmentationModel
) -> Iterator[Case]:
    """Yield synthetic lesions in the real lungs of a series, one case per seed and part.

    Raises:
        ValueError: Nobody said where the series is free of lesions.
    """
    for one in real_cases(folder, seeds, lungs):
        yield Case(
            name=one.name, source=source, volume=one.volume, lesion=one.lesion, lungs=one.lungs
        )


def read_case(case: Case, models: ModelSet) -> CaseReading:
    """Analyse a case as the node would, and compare the result with the truth."""
    start = time.perf_counter()
    try:
        analysis = analyse(case.volume, models, method_of(models), lambda _stage, _part: None)
    except SeriesRejected as refusal:
        return CaseReading(record=_refused(case, models, str(refusal)), worst=(), false=())
    seconds = time.perf_counter() - start
    found = analysis.lesion_map.lesion()
    return CaseReading(
        record=_measure(case, analysis, seconds),
        worst=_worst(case, found),
        false=_false(case, found, analysis.findings.method),
    )


def map_of(reading: Reading, volume: Volume) -> LesionMap:
    """Return what a reading marked; nothing where the analysis refused the volume."""
    if reading.analysis is not None:
        return reading.analysis.lesion_map
    blank = np.zeros(volume.geometry.shape, dtype=np.uint8)
    return LesionMap(labels=blank, geometry=volume.geometry)


def method_of(models: ModelSet) -> Method:
    """Return the node's default method with the thresholds of the lesion model's manifest."""
    return models.method(Method())


def probability_alone(
    model: SegmentationModel, volume: Volume, slices: Sequence[int]
) -> NDArray[np.float32]:
    """Return the probabilities of a network alone, without presence and cleaning of the lungs.

    Float32 (len(slices), row, column): of either lung, or of a lesion where the scan is dense
    enough for one.
    """
    found = probabilities_on_slices(volume, model, slices).sum(axis=1)
    planes = zip(slices, found, strict=True)
    return np.stack(
        [suppress_aerated(one, volume, index, model.minimum_lesion_hu) for index, one in planes]
    )


def smallest_voxels(volume: Volume, method: Method) -> int:
    """Return the size below which the product drops a lesion, in voxels."""
    return max(1, int(np.ceil(method.minimum_lesion_ml / volume.geometry.voxel_ml)))


def _measure(case: Case, analysis: Analysis, seconds: float) -> CaseRecord:
    found, findings = analysis.lesion_map.lesion(), analysis.findings
    geometry = case.volume.geometry
    gaps = surface_gaps(found, case.lesion, geometry.spacing)
    lungs = analysis.lesion_map.left_lung() | analysis.lesion_map.right_lung()
    return CaseRecord(
        name=case.name,
        source=case.source,
        has_lesions=bool(case.lesion.any()),
        positive=findings.presence.positive,
        score=findings.presence.score,
        operating_point=findings.presence.operating_point,
        lung_dice=dice(lungs, case.lungs),
        lesion=overlap(found, case.lesion),
        distances=None if gaps is None else distances([gaps]),
        lesions=count_lesions(found, case.lesion, smallest_voxels(case.volume, findings.method)),
        lesion_ml=float(found.sum()) * geometry.voxel_ml,
        true_lesion_ml=float(case.lesion.sum()) * geometry.voxel_ml,
        involved_percent=findings.covered.involved_percent,
        true_involved_percent=percent(case.lesion, case.lungs),
        seconds=seconds,
        refused=None,
    )


def _refused(case: Case, models: ModelSet, reason: str) -> CaseRecord:
    """Return the record of a rejected scan, as if nothing was found."""
    nothing = np.zeros_like(case.lesion)
    true = count_lesions(nothing, case.lesion, smallest_voxels(case.volume, method_of(models))).true
    return CaseRecord(
        name=case.name,
        source=case.source,
        has_lesions=bool(case.lesion.any()),
        positive=False,
        score=0.0,
        operating_point=OPERATING_POINT,
        lung_dice=0.0,
        lesion=Overlap(dice=0.0, sensitivity=None, precision=None),
        distances=None,
        lesions=LesionCount(true=true, hit=0, marked=0, false=0),
        lesion_ml=0.0,
        true_lesion_ml=float(case.lesion.sum()) * case.volume.geometry.voxel_ml,
        involved_percent=0.0,
        true_involved_percent=percent(case.lesion, case.lungs),
        seconds=0.0,
        refused=reason,
    )


def _worst(case: Case, found: Mask) -> tuple[Tile, ...]:
    """Return the slice in which most voxels are wrong, of those with true lesion."""
    wrong = (found ^ case.lesion).sum(axis=(1, 2)) * case.lesion.any(axis=(1, 2))
    if not wrong.any():
        return ()
    index = int(wrong.argmax())
    whole, here = dice(found, case.lesion), dice(found[index], case.lesion[index])
    caption = (case.name, f"Dice {whole:.2f}; slice {index + 1}: {here:.2f}")
    return (tile_of(case, found, index, caption, -whole),)


def _false(case: Case, found: Mask, method: Method) -> tuple[Tile, ...]:
    """Return the slice with the largest area marked outside every true lesion."""
    false = false_lesions(found, case.lesion, smallest_voxels(case.volume, method))
    if not false.any():
        return ()
    areas = false.sum(axis=(1, 2))
    index, millilitres = int(areas.argmax()), float(areas.sum()) * case.volume.geometry.voxel_ml
    caption = (case.name, f"{millilitres:.1f} ml false; slice {index + 1}")
    return (tile_of(case, found, index, caption, millilitres),)


def tile_of(case: Case, found: Mask, index: int, caption: tuple[str, str], badness: float) -> Tile:
    """Return one slice of a case, cut to the lungs."""
    box = box_of(case.lungs[index], found[index])
    return Tile(
        image=grey(case.volume.hu[index])[box],
        found=found[index][box],
        truth=case.lesion[index][box],
        lungs=None,
        caption=caption,
        group=case.name,
        place=index,
        badness=badness,
    )
