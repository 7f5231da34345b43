"""Labelled chests (``label-chest``) on the live path: each result is compared with its labels."""

from __future__ import annotations

from dataclasses import dataclass

from chestct.volume import LesionMap
from inference.loading.pixels import AIR_HU
from inference.ports import ModelSet
from training.chests import LabelledChest, volume_of
from training.data import IGNORE, LEFT, RIGHT
from training.metrics import Mask, dice
from training.readings.reading import Reading, read_volume
from training.real_labels.split import KnownChest
from training.report.cases import map_of
from training.report.gallery import Tile, box_of, grey, squared
from training.report.records import LabelledRecord

_EVERY = 5
"""The pictures show every fifth slab."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledReading:
    """The record of a chest, and pictures of it unless it was trained on."""

    record: LabelledRecord
    tiles: tuple[Tile, ...]


def read_labelled(chest: LabelledChest, known: KnownChest, models: ModelSet) -> LabelledReading:
    """Analyse a labelled chest as the node would; a refused chest has neither lungs nor lesions."""
    volume = volume_of(chest.hu, chest.spacing)
    reading = read_volume(volume, models, lambda _stage, _part: None)
    found = map_of(reading, volume)
    return LabelledReading(
        record=_record(chest, known, reading, found),
        tiles=() if known.part == "train" else _tiles(chest, found),
    )


def _record(
    chest: LabelledChest, known: KnownChest, reading: Reading, found: LesionMap
) -> LabelledRecord:
    findings = reading.analysis.findings if reading.analysis else None
    lungs, lesion = found.left_lung() | found.right_lung(), found.lesion()
    judged, assessed = chest.lungs != IGNORE, chest.lesion != IGNORE
    true_lungs, true_lesion = judged & (chest.lungs > 0), chest.lesion == 1

    def ml(mask: Mask) -> float:
        return float(mask.sum()) * found.geometry.voxel_ml

    return LabelledRecord(
        name=chest.name,
        part=known.part,
        normal=known.normal,
        call=str(reading.call),
        reason=reading.obstacle.message if reading.obstacle else None,
        score=findings.presence.score if findings else None,
        right_lung_dice=dice(found.right_lung() & judged, chest.lungs == RIGHT),
        left_lung_dice=dice(found.left_lung() & judged, chest.lungs == LEFT),
        true_lung_ml=ml(true_lungs),
        missed_lung_ml=ml(true_lungs & ~lungs),
        extra_lung_ml=ml(lungs & judged & ~true_lungs),
        outside_body_ml=ml(lungs & ~chest.body),
        lesion_ml=ml(lesion),
        true_lesion_ml=ml(true_lesion),
        unknown_ml=ml(~assessed),
        false_ml=ml(lesion & assessed & ~true_lesion),
        missed_ml=ml(true_lesion & ~lesion),
        lesion_dice=dice(lesion & assessed, true_lesion) if true_lesion.any() else None,
        involved_percent=findings.covered.involved_percent if findings else 0.0,
        seconds=sum(reading.seconds.values()),
    )


def _tiles(chest: LabelledChest, found: LesionMap) -> tuple[Tile, ...]:
    """Return every fifth slab, all cut to one box around the lungs."""
    hu, lesion, truth = (
        squared(stack, fill)
        for stack, fill in ((chest.hu, AIR_HU), (found.lesion(), 0), (chest.lesion == 1, 0))
    )
    lungs = squared(found.left_lung() | found.right_lung(), 0)
    box = box_of(*lungs, *squared(chest.lungs > 0, 0))
    return tuple(
        Tile(
            image=grey(hu[index])[box],
            found=lesion[index][box],
            truth=truth[index][box],
            lungs=lungs[index][box],
            caption=(chest.name, f"slab {index + 1} of {len(hu)}"),
            group=chest.name,
            place=index,
            badness=0.0,
        )
        for index in range(_EVERY // 2, len(hu), _EVERY)
    )
