"""Painted opacities of one kind each, in real chests without lesions that were not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chestct.volume import Volume
from inference.loading.pixels import AIR_HU
from inference.ports import ModelSet
from training.chests import LabelledChest, Scan, depth_in, make_scan, volume_of
from training.data import IGNORE
from training.metrics import Mask, dice, overlap
from training.readings.reading import Call, read_volume
from training.real_labels.split import KnownChest
from training.report.cases import map_of
from training.report.gallery import Tile, box_of, grey, squared
from training.report.painted_summary import is_found
from training.report.records import UNTOUCHED, PaintedRecord
from training.scenes import Scene

SCANS = 16
"""Scans of each kind in each chest."""
_FIRST_SEED = 12001
"""Seeds from here on neither train nor choose anything."""
_SEEDS_OF_A_KIND = 100
_SHOWN_ML = 5.0
"""Missed opacities of this volume or more are shown."""
_OUTLINED = (Call.POSITIVE, Call.NEGATIVE, Call.REFUSED)
"""A lung that is not assessable has no outline of lesions to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintedReading:
    """The record of a scan, and a picture of missed opacities or of a false lesion."""

    record: PaintedRecord
    tiles: tuple[Tile, ...]


def part_without_lesions(chest: LabelledChest, known: KnownChest) -> LabelledChest | None:
    """Return the part of a chest to paint into; None if it was trained on or no part is free."""
    if known.part == "train" or not (known.normal or known.free):
        return None
    part = slice(*(known.free or (0, len(chest.hu))))
    return replace(
        chest,
        hu=chest.hu[part],
        body=chest.body[part],
        lungs=chest.lungs[part],
        lesion=chest.lesion[part],
    )


def read_painted(
    chest: LabelledChest, part: str, scans: int, models: ModelSet
) -> Iterator[PaintedReading]:
    """Yield ``scans`` readings without opacities, then as many of each kind of opacity.

    A scan whose field of view cuts all opacities away is left out. ``part`` is that of the split.
    """
    depth = depth_in(chest.lungs, chest.spacing)
    for place, kind in enumerate((None, *Scene)):
        first = _FIRST_SEED + _SEEDS_OF_A_KIND * place
        for number in range(scans):
            # Without a kind only every third seed paints nothing.
            seed = first + number if kind else 3 * (first // 3 + 1 + number)
            scan = make_scan(chest, depth, seed, kind)
            if kind is None or (scan.lesion == 1).any():
                yield _read(chest, part, scan, kind, seed, models)


def _read(
    chest: LabelledChest, part: str, scan: Scan, kind: Scene | None, seed: int, models: ModelSet
) -> PaintedReading:
    volume = volume_of(scan.hu, chest.spacing)
    reading = read_volume(volume, models, lambda _stage, _part: None)
    findings = reading.analysis.findings if reading.analysis else None
    score = findings.presence.score if findings else 0.0
    found, truth = map_of(reading, volume).lesion(), scan.lesion == 1
    marked = found & (scan.lesion != IGNORE)
    voxel_ml, rule_ml = volume.geometry.voxel_ml, _rule_ml(models)
    record = PaintedRecord(
        chest=chest.name,
        part=part,
        kind=kind or UNTOUCHED,
        seed=seed,
        call=str(reading.call),
        reason=reading.obstacle.message if reading.obstacle else None,
        painted_ml=float(truth.sum()) * voxel_ml,
        certain_ml=rule_ml * score / (1 - score),
        rule_ml=rule_ml,
        marked_ml=float(found.sum()) * voxel_ml,
        marked_share=overlap(marked, truth).sensitivity,
        false_ml=float((marked & ~truth).sum()) * voxel_ml,
        lesion_dice=dice(marked, truth) if kind and reading.call in _OUTLINED else None,
        involved_percent=findings.covered.involved_percent if findings else 0.0,
    )
    return PaintedReading(record=record, tiles=_tiles(record, volume, scan, found, truth))


def _rule_ml(models: ModelSet) -> float:
    rule = models.lesions.presence
    assert rule is not None, "the manifest of a lesion model has a presence rule"
    return rule.volume_ml


def _tiles(
    record: PaintedRecord, volume: Volume, scan: Scan, found: Mask, truth: Mask
) -> tuple[Tile, ...]:
    """Return the slab with most opacity of a missed scan, or with most marked of an untouched."""
    wrong = found if record.kind == UNTOUCHED else truth
    missed = not is_found(record) and record.painted_ml >= _SHOWN_ML
    if not missed and not (record.kind == UNTOUCHED and found.any()):
        return ()
    index = int(wrong.sum(axis=(1, 2)).argmax())
    box = box_of(*squared(scan.lungs > 0, 0))
    millilitres = record.painted_ml if missed else record.marked_ml
    return (
        Tile(
            image=grey(squared(volume.hu, AIR_HU)[index])[box],
            found=squared(found, 0)[index][box],
            truth=squared(truth, 0)[index][box],
            lungs=None,
            caption=(f"{record.chest} seed {record.seed}", f"{record.kind}: {millilitres:.1f} ml"),
            group=f"{record.chest} {record.kind}",
            place=index,
            badness=millilitres,
        ),
    )
