"""Chooses the presence rule of a lesion model from scans with known truth."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chestct.errors import SeriesRejected
from chestct.volume import Volume
from inference.networks.manifest import read_manifest
from inference.networks.session import OnnxModel
from inference.ports import ModelSet, PresenceRule
from inference.reading.frame import Frame
from inference.reading.lungs import delineate
from inference.reading.presence import certain, decide
from inference.reading.readers import lesion_probabilities, reader_on
from inference.reading.surroundings import with_air_around
from phantom import make_thorax
from training.chests import LabelledChest, depth_in, make_scan, volume_of
from training.data import SliceSet
from training.evaluate import probabilities_of_slices
from training.phantoms import random_spec
from training.plain import make_plain

STRIDE = 1
CERTAINTIES = (0.8, 0.9, 0.95, 0.98)
"""No higher values: real lesions are marked less surely than the synthetic ones here (ADR 25)."""
_SEEN_ML = 5.0
"""Lesions of this volume must make a scan positive."""
_LEAST_ML, _MOST_ML = 0.1, 100.0
"""Volumes are clipped to this range: beyond it they say nothing more."""
_LEAST_SPREAD = 0.25
"""Least standard deviation of the logarithms of a kind of scan: equal volumes prove nothing."""
_EDGE = 0.1
"""The chosen volume stays this part of the gap away from the volumes on either side."""
ASSUMED_VOXEL_ML = 1.4 * 1.4 * 1.0 / 1000
"""The 8-bit slices do not state a voxel size: 256 pixels of 1.4 mm are a common field of view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVolume:
    """A scan in HU, and whether it has a lesion."""

    name: str
    volume: Volume
    has_lesions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScan:
    """The volumes of one scan, by certainty and then slice, ml, and whether it has a lesion."""

    name: str
    has_lesions: bool
    volumes: Mapping[float, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleScore:
    """The score of a rule on the known scans, with the best volume for its certainty.

    ``separation`` is the distance of the mean volumes of both kinds from the point between them, in
    standard deviations of the logarithms; ``wrong`` is the number of wrong decisions.
    """

    rule: PresenceRule
    wrong: int
    sensitivity: float
    specificity: float
    separation: float

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2


def validation_phantoms(seeds: range) -> Iterator[KnownVolume]:
    """Yield a phantom and a plain chest per seed; every third has no lesion."""
    for seed in seeds:
        thorax = make_thorax(random_spec(seed, lesions=seed % 3 != 0))
        yield KnownVolume(
            name=f"phantom {seed}",
            volume=thorax.volume(),
            has_lesions=bool(thorax.lesion.any()),
        )
        plain = make_plain(seed, lesions=seed % 3 != 0)
        yield KnownVolume(
            name=f"plain chest {seed}",
            volume=plain.volume(),
            has_lesions=bool(plain.lesion.any()),
        )


def validation_chests(chests: Iterable[LabelledChest], seeds: range) -> Iterator[KnownVolume]:
    """Yield a scan of each labelled chest per seed; every third has no painted opacity.

    A scan whose opacities are smaller than :data:`_SEEN_ML` together is left out: it is neither
    free of lesions nor must it be found.
    """
    for chest in chests:
        depth, voxel_ml = depth_in(chest.lungs, chest.spacing), math.prod(chest.spacing) / 1000
        for seed in seeds:
            scan = make_scan(chest, depth, seed)
            lesion_ml = float((scan.lesion == 1).sum()) * voxel_ml
            if 0 < lesion_ml < _SEEN_ML:
                continue
            yield KnownVolume(
                name=f"{chest.name} seed {seed}",
                volume=volume_of(scan.hu, chest.spacing),
                has_lesions=lesion_ml > 0,
            )


def known_scans(
    models: ModelSet, scans: Iterable[KnownVolume], say: Callable[[str], None]
) -> Iterator[KnownScan]:
    """Read scans as the node does: inside the predicted lungs.

    A scan that the node would reject (no lungs) is reported to ``say`` and left out.
    """
    for scan in scans:
        try:
            frame = Frame.of(scan.volume)
            delineated = delineate(frame, scan.volume, models.lungs, lambda _part: None)
        except SeriesRejected as rejection:
            say(f"{scan.name} left out: {rejection}")
            continue
        lungs = (delineated.labels > 0) | (delineated.airless > 0)
        chosen = np.flatnonzero(lungs.any(axis=(1, 2)))[::STRIDE].tolist()
        least_hu = models.lesions.minimum_lesion_hu
        reader = reader_on(frame, scan.volume, models.lesions)
        read = lesion_probabilities(reader, frame, models.lesions, chosen, least_hu)
        channel = np.stack([plane for _, planes in read for plane in planes])
        say(scan.name)
        yield KnownScan(
            name=scan.name,
            has_lesions=scan.has_lesions,
            volumes=_volumes_in(frame.volume, channel, lungs, chosen),
        )


def known_volumes(model: OnnxModel, data: SliceSet) -> Iterator[KnownScan]:
    """Read volumes of 8-bit slices inside their true lungs; each of them has lesions.

    Their HU are unknown, so marks count whatever lies around them.
    """
    for volume in np.unique(data.volumes):
        own = data.select([int(volume)])
        found = probabilities_of_slices(model, own)[:, model.classes.index("lesion")]
        yield KnownScan(
            name=f"volume {volume}",
            has_lesions=bool(own.lesions.any()),
            volumes={
                certainty: tuple(
                    certain(found, own.lungs > 0, certainty)[::STRIDE].sum(axis=(1, 2))
                    * ASSUMED_VOXEL_ML
                )
                for certainty in CERTAINTIES
            },
        )


def _volumes_in(
    volume: Volume, probabilities: NDArray[np.float32], lungs: NDArray[np.bool_], slabs: list[int]
) -> dict[float, tuple[float, ...]]:
    """Return the volumes that count in the read slabs, as the node counts them, by certainty."""
    spacing, voxel_ml = volume.geometry.pixel_spacing, volume.geometry.voxel_ml
    counted: dict[float, tuple[float, ...]] = {}
    for certainty in CERTAINTIES:
        marks = certain(probabilities, lungs[slabs], certainty)
        counted[certainty] = tuple(
            with_air_around(plane, lungs[slab], volume.hu[slab], spacing).sum() * voxel_ml
            for slab, plane in zip(slabs, marks, strict=True)
        )
    return counted


def outcomes(scans: Sequence[KnownScan]) -> list[RuleScore]:
    """Return the best rule of each certainty, the best first.

    Among the rules with at most one wrong scan more than the best, the widest separation decides:
    with few scans one more error is chance, while kinds that lie close together fail on the next
    scan. The other rules follow by their number of errors.
    """
    found = [_best_volume(scans, certainty) for certainty in CERTAINTIES]
    fewest = min(one.wrong for one in found)

    def order(one: RuleScore) -> tuple[int, float]:
        return (max(fewest + 1, one.wrong), -one.separation)

    return sorted(found, key=order)


def _best_volume(scans: Sequence[KnownScan], certainty: float) -> RuleScore:
    """Return the rule with its volume.

    The volume lies in the gap between two scans with the most right decisions, equally many
    standard deviations from both kinds (normal in the logarithm). The middle of the gap would be
    too high: lesion-free scans are alike, near zero, while scans with lesions vary widely, so the
    next small lesion may be smaller than all of these.
    """
    found = np.array([STRIDE * sum(scan.volumes[certainty]) for scan in scans])
    truth = np.array([scan.has_lesions for scan in scans])
    logs = np.log(np.clip(found, _LEAST_ML, _MOST_ML))
    crossing, separation = _crossing(logs[~truth], logs[truth])
    ends = [np.log(_LEAST_ML) - 1, np.log(_MOST_ML) + 1]
    tried = []
    for low, high in itertools.pairwise(np.unique([*ends, *logs])):
        edge = _EDGE * (high - low)
        at = float(np.clip(crossing, low + edge, high - edge))
        rule = PresenceRule(certainty=certainty, volume_ml=round(np.exp(at), 3), stride=STRIDE)
        positive = np.array([decide(scan.volumes[certainty], rule).positive for scan in scans])
        outcome = RuleScore(
            rule=rule,
            wrong=int((positive != truth).sum()),
            sensitivity=float(positive[truth].mean()),
            specificity=float((~positive[~truth]).mean()),
            separation=separation,
        )
        tried.append((outcome.balanced_accuracy, -abs(at - crossing), outcome))
    return max(tried, key=lambda one: one[:2])[2]


def _crossing(
    without: NDArray[np.float64], with_lesions: NDArray[np.float64]
) -> tuple[float, float]:
    """Return where both kinds are equally many standard deviations off, and how many."""
    narrow, wide = (max(_LEAST_SPREAD, float(one.std())) for one in (without, with_lesions))
    at = (without.mean() * wide + with_lesions.mean() * narrow) / (narrow + wide)
    return float(at), float((with_lesions.mean() - without.mean()) / (narrow + wide))


def wrong(scans: Sequence[KnownScan], rule: PresenceRule) -> list[tuple[str, float]]:
    """Return name and score of the scans on which a rule is wrong."""
    decided = [(scan, decide(scan.volumes[rule.certainty], rule)) for scan in scans]
    return [
        (scan.name, presence.score)
        for scan, presence in decided
        if presence.positive != scan.has_lesions
    ]


def write_rule(manifest: Path, rule: PresenceRule) -> None:
    """Put a rule into the ``[presence]`` table of a manifest; the rest stays as it is.

    Raises:
        ModelError: The manifest is missing or breaks its contract.
        ValueError: It has no presence rule to replace.
    """
    if read_manifest(manifest).presence is None:
        raise ValueError(f"{manifest} has no [presence]")
    text = manifest.read_text(encoding="utf-8")
    before, table, after = text.partition("[presence]\n")
    for name, value in asdict(rule).items():
        after = re.sub(rf"^{name} = .*$", f"{name} = {value}", after, count=1, flags=re.MULTILINE)
    manifest.write_text(before + table + after, encoding="utf-8")
