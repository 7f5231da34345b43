"""Chooses the presence rule of a lesion model from scans whose answer is known."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chestct.errors import SeriesRejected
from chestct.volume import Volume
from inference.lungs import delineate
from inference.manifest import read_manifest
from inference.phantom import make_thorax
from inference.ports import ModelSet, PresenceRule, SegmentationModel
from inference.postprocess import opaque
from inference.presence import decide, slice_score
from inference.session import OnnxModel
from inference.training.data import SliceSet
from inference.training.evaluate import probabilities_of_slices
from inference.training.phantoms import random_spec
from inference.training.plain import make_plain
from inference.training.synthetic import other_breaths, real_cases

STRIDE = 2
AREAS_MM2 = (100.0, 200.0, 400.0, 800.0)
SLICES = (2, 3, 5, 8)
_LEAST_SCORE = 0.05
"""Scores count as no nearer to 0 and 1 than this. A logit has no ends, and a network that is
surer than that of most lesions is not so of the small ones that are missed."""
_LEAST_SPREAD = 0.25
"""Logits of one kind of scan differ by at least this: a few equal scores prove no certainty."""
_EDGE = 0.1
"""The point keeps this share of the gap away from the scores beside it."""
ASSUMED_PIXEL_MM = 1.4
"""The 8-bit slices do not say how large a pixel is; 256 of these are a common field of view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVolume:
    """A scan in HU, and whether it has a lesion."""

    name: str
    volume: Volume
    has_lesions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScan:
    """The scores of one scan, by area and then by slice, and whether it has a lesion."""

    name: str
    has_lesions: bool
    scores: Mapping[float, Mapping[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What a rule does on the known scans; the operating point is the best one for it.

    ``separation`` is how many standard deviations (of the logits) the mean scores of both
    kinds lie away from the point between them, ``wrong`` the number of scans that are called
    wrongly.
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


def validation_opacities(
    folder: Path, seeds: range, lungs: SegmentationModel
) -> Iterator[KnownVolume]:
    """Yield synthetic opacities in the real chest of ``folder``, and the untouched chest.

    Raises:
        ValueError: The series is not in the committed list of lesion-free parts.
    """
    for case in real_cases(folder, seeds, lungs):
        yield KnownVolume(name=case.name, volume=case.volume, has_lesions=bool(case.kinds))


def validation_breaths(
    folder: Path, seeds: range, lungs: SegmentationModel
) -> Iterator[KnownVolume]:
    """Yield the untouched chest of ``folder`` in another breath and reconstruction per seed.

    Every third seed is used. What the chest of one moment says of lesion-free lungs is little.

    Raises:
        ValueError: The series is not in the committed list of lesion-free parts.
    """
    for name, volume in other_breaths(folder, [seed for seed in seeds if seed % 3 == 0], lungs):
        yield KnownVolume(name=name, volume=volume, has_lesions=False)


def known_scans(
    models: ModelSet, scans: Iterable[KnownVolume], say: Callable[[str], None]
) -> Iterator[KnownScan]:
    """Read scans as the node does: inside the lungs that are found.

    One that the node would reject (no lungs are found in it) is said and left out: nothing is
    decided of it.
    """
    for scan in scans:
        try:
            lungs = delineate(scan.volume, models.lungs, lambda _part: None).labels > 0
        except SeriesRejected as rejection:
            say(f"{scan.name} left out: {rejection}")
            continue
        chosen = np.flatnonzero(lungs.any(axis=(1, 2)))[::STRIDE].tolist()
        found = models.lesions.reader(scan.volume).probabilities(chosen)
        channel = np.stack(
            [
                opaque(plane, scan.volume, index, models.lesions.minimum_lesion_hu)
                for index, plane in zip(
                    chosen, found[:, models.lesions.classes.index("lesion")], strict=True
                )
            ]
        )
        say(scan.name)
        rows, columns = scan.volume.geometry.pixel_spacing
        yield KnownScan(
            name=scan.name,
            has_lesions=scan.has_lesions,
            scores=_scores(channel, lungs[chosen], rows * columns),
        )


def known_volumes(model: OnnxModel, data: SliceSet) -> Iterator[KnownScan]:
    """Read volumes of 8-bit slices inside their true lungs; each of them has lesions."""
    for volume in np.unique(data.volumes):
        own = data.select([int(volume)])
        found = probabilities_of_slices(model, own)[:, model.classes.index("lesion")]
        yield KnownScan(
            name=f"volume {volume}",
            has_lesions=bool(own.lesions.any()),
            scores=_scores(found[::STRIDE], own.lungs[::STRIDE] > 0, ASSUMED_PIXEL_MM**2),
        )


def _scores(
    probabilities: NDArray[np.float32], lungs: NDArray[np.bool_], pixel_mm2: float
) -> dict[float, dict[int, float]]:
    return {
        area: {
            index: slice_score(plane, lung, pixel_mm2, _rule(area, SLICES[0], 0.5))
            for index, (plane, lung) in enumerate(zip(probabilities, lungs, strict=True))
        }
        for area in AREAS_MM2
    }


def _rule(area: float, slices: int, point: float) -> PresenceRule:
    return PresenceRule(top_area_mm2=area, slices=slices, stride=STRIDE, operating_point=point)


def outcomes(scans: Sequence[KnownScan]) -> list[RuleOutcome]:
    """Return every rule with its best operating point, the best rule first.

    Of those that are wrong on at most one scan more than the best, the widest separation
    decides: of few scans one more is chance, while kinds that lie close together are wrong on
    the next scan. The others follow by what they get right.
    """
    found = [
        _best_point(scans, area, count) for area, count in itertools.product(AREAS_MM2, SLICES)
    ]
    fewest = min(one.wrong for one in found)

    def order(one: RuleOutcome) -> tuple[int, float]:
        return (max(fewest + 1, one.wrong), -one.separation)

    return sorted(found, key=order)


def _best_point(scans: Sequence[KnownScan], area: float, count: int) -> RuleOutcome:
    """Return the rule with its operating point.

    In the gap between two scores in which most scans are called rightly, it lies where both
    kinds are equally many standard deviations off, taken as normal in the logit of the score.
    The middle of the gap would lie too high: lesion-free scans score alike, near 0, while
    scans with lesions score anything, so that the next small lesion scores below the ones seen.
    """
    rule = _rule(area, count, 0.5)
    scores = np.array([decide(scan.scores[area], rule).score for scan in scans])
    truth = np.array([scan.has_lesions for scan in scans])
    crossing, separation = _crossing(scores[~truth], scores[truth])
    ordered = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    tried = []
    for low, high in itertools.pairwise(ordered):
        edge = _EDGE * (high - low)
        point = round(float(np.clip(crossing, low + edge, high - edge)), 3)
        positive = scores >= point
        tried.append(
            RuleOutcome(
                rule=_rule(area, count, point),
                wrong=int((positive != truth).sum()),
                sensitivity=float(positive[truth].mean()),
                specificity=float((~positive[~truth]).mean()),
                separation=separation,
            )
        )
    return max(
        tried,
        key=lambda one: (one.balanced_accuracy, -abs(one.rule.operating_point - crossing)),
    )


def _crossing(
    without: NDArray[np.float64], with_lesions: NDArray[np.float64]
) -> tuple[float, float]:
    """Return where both kinds are equally many standard deviations off, and how many."""
    below, above = (
        np.log(clipped / (1 - clipped))
        for clipped in (
            np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE) for scores in (without, with_lesions)
        )
    )
    narrow, wide = (max(_LEAST_SPREAD, float(logits.std())) for logits in (below, above))
    at = (below.mean() * wide + above.mean() * narrow) / (narrow + wide)
    separation = (above.mean() - below.mean()) / (narrow + wide)
    return float(1 / (1 + np.exp(-at))), float(separation)


def wrong(scans: Sequence[KnownScan], rule: PresenceRule) -> list[tuple[str, float]]:
    """Return name and score of the scans on which a rule is wrong."""
    decided = [(scan, decide(scan.scores[rule.top_area_mm2], rule)) for scan in scans]
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
