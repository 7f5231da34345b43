"""Measures the networks on 8-bit slices with expert masks, by patient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.networks.session import OnnxModel
from training.data import SliceSet, patient_of
from training.evaluate import predict_slices
from training.metrics import (
    Gaps,
    Mask,
    count_lesions,
    dice,
    distances,
    false_lesions,
    overlap,
    surface_gaps,
)
from training.metrics import LesionCount as Count
from training.report.changes import Change, changed_model
from training.report.gallery import Tile, box_of
from training.report.records import MirrorRecord, PatientRecord, SliceRecord

SMALLEST_PIXELS = 20
"""Smaller connected lesions are not counted, neither true nor marked ones."""
SHOWN_PIXELS = 200
"""A slice with less true lesion is not shown as one of the worst: a few pixels decide its Dice."""
_PIXELS = (1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Masks (slice, row, column) of the lungs and of the lesions inside them."""

    lung: Mask
    lesion: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReading:
    """Masks (slice, row, column) of one network, lesions anywhere, and the seconds it took."""

    mask: Mask
    seconds: float


def read_both_ways(model: OnnxModel, data: SliceSet) -> dict[bool, CaseReading]:
    """Read all slices once (False), and once more mirrored (True)."""
    found = {}
    for mirrored in (False, True):
        start = time.perf_counter()
        way = changed_model(model, Change(name="", contract={"mirror": mirrored}))
        mask = predict_slices(way, data)
        found[mirrored] = CaseReading(mask=mask, seconds=time.perf_counter() - start)
    return found


def combine(lung: Mask, lesion: Mask) -> Prediction:
    """Return both; as in the product, a lesion counts only inside the lungs found."""
    return Prediction(lung=lung, lesion=lesion & lung)


def measure_mirror(
    lungs: dict[bool, CaseReading], lesions: dict[bool, CaseReading], data: SliceSet
) -> tuple[MirrorRecord, ...]:
    """Compare both ways of reading by patient."""
    patients = np.array([patient_of(int(volume)) for volume in data.volumes])
    records = []
    for mirrored in (False, True):
        found = combine(lungs[mirrored].mask, lesions[mirrored].mask)
        for patient in np.unique(patients):
            own = patients == patient
            records.append(
                MirrorRecord(
                    mirrored=mirrored,
                    patient=int(patient),
                    lung_dice=dice(found.lung[own], data.lungs[own] > 0),
                    lesion_dice=dice(found.lesion[own], data.lesions[own]),
                    seconds=lungs[mirrored].seconds + lesions[mirrored].seconds,
                )
            )
    return tuple(records)


def measure_slices(found: Prediction, data: SliceSet) -> tuple[SliceRecord, ...]:
    """Compare slice by slice."""
    return tuple(_measure_slice(found, data, index) for index in range(len(data.volumes)))


def _measure_slice(found: Prediction, data: SliceSet, index: int) -> SliceRecord:
    lesion, truth = found.lesion[index], data.lesions[index]
    volume, true_lung_area = int(data.volumes[index]), int((data.lungs[index] > 0).sum())
    lesion_area, true_lesion_area = int(lesion.sum()), int(truth.sum())
    return SliceRecord(
        index=index,
        volume=volume,
        patient=patient_of(volume),
        lung_area=int(found.lung[index].sum()),
        true_lung_area=true_lung_area,
        lesion_area=lesion_area,
        true_lesion_area=true_lesion_area,
        area_error=100.0 * (lesion_area - true_lesion_area) / max(1, true_lung_area),
        lesion_dice=dice(lesion, truth) if truth.any() else None,
        lesions=count_lesions(lesion, truth, SMALLEST_PIXELS),
    )


def measure_patients(
    found: Prediction, data: SliceSet, slices: Sequence[SliceRecord]
) -> tuple[PatientRecord, ...]:
    """Compare by patient; ``slices`` are those of :func:`measure_slices`."""
    return tuple(
        _measure_patient(found, data, [one for one in slices if one.patient == patient])
        for patient in sorted({one.patient for one in slices})
    )


def _measure_patient(
    found: Prediction, data: SliceSet, own: Sequence[SliceRecord]
) -> PatientRecord:
    chosen = [one.index for one in own]
    lung, lesion = found.lung[chosen], found.lesion[chosen]
    true_lung, true_lesion = data.lungs[chosen] > 0, data.lesions[chosen]
    gaps = _gaps(lesion, true_lesion)
    return PatientRecord(
        patient=own[0].patient,
        slices=len(own),
        lung=overlap(lung, true_lung),
        lung_distances=distances(_gaps(lung, true_lung)),
        lesion=overlap(lesion, true_lesion),
        lesion_distances=distances(gaps),
        lesions=total([one.lesions for one in own]),
        involved_percent=percent(lesion, lung),
        true_involved_percent=percent(true_lesion, true_lung),
        unmatched=int((lesion.any(axis=(1, 2)) | true_lesion.any(axis=(1, 2))).sum()) - len(gaps),
    )


def _gaps(mine: Mask, truth: Mask) -> list[Gaps]:
    """Measure slice by slice: nothing says how far apart the slices are."""
    found = (surface_gaps(one, two, _PIXELS) for one, two in zip(mine, truth, strict=True))
    return [one for one in found if one is not None]


def total(counts: Sequence[Count]) -> Count:
    """Return the sum of counts."""
    return Count(
        true=sum(one.true for one in counts),
        hit=sum(one.hit for one in counts),
        marked=sum(one.marked for one in counts),
        false=sum(one.false for one in counts),
    )


def percent(lesion: Mask, lung: Mask) -> float:
    """Return how much of ``lung`` is ``lesion``, in percent; 0 without lung."""
    size = int(np.count_nonzero(lung))
    return 100.0 * int(np.count_nonzero(lesion)) / size if size else 0.0


def worst_tiles(
    found: Prediction, data: SliceSet, slices: Sequence[SliceRecord]
) -> tuple[Tile, ...]:
    """Return a picture of each slice with :data:`SHOWN_PIXELS`; the lower its Dice, the worse."""
    return tuple(
        _tile(
            found,
            data,
            one,
            f"slice {one.index + 1}: Dice {one.lesion_dice:.2f}",
            -one.lesion_dice,
        )
        for one in slices
        if one.lesion_dice is not None and one.true_lesion_area >= SHOWN_PIXELS
    )


def false_tiles(
    found: Prediction, data: SliceSet, slices: Sequence[SliceRecord]
) -> tuple[Tile, ...]:
    """Return a picture of each slice with false lesions, the larger the worse."""
    tiles = []
    for one in slices:
        false = false_lesions(found.lesion[one.index], data.lesions[one.index], SMALLEST_PIXELS)
        if false.any():
            area = int(false.sum())
            text = f"slice {one.index + 1}: {area} pixels false"
            tiles.append(_tile(found, data, one, text, float(area)))
    return tuple(tiles)


def _tile(found: Prediction, data: SliceSet, one: SliceRecord, text: str, badness: float) -> Tile:
    lesion, truth = found.lesion[one.index], data.lesions[one.index]
    box = box_of(data.lungs[one.index] > 0, lesion)
    return Tile(
        image=data.images[one.index][box],
        found=lesion[box],
        truth=truth[box],
        lungs=None,
        caption=(f"patient {one.patient}", text),
        group=f"patient {one.patient}",
        place=one.index,
        badness=badness,
    )
