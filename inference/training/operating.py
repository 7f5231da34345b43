"""Chooses the presence rule of a lesion model from scans whose answer is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.phantom import PhantomSpec, make_thorax
from inference.ports import PresenceRule
from inference.presence import decide, slice_score
from inference.session import OnnxModel
from inference.training.data import SliceSet
from inference.training.evaluate import phantom_volume, probabilities_of_slices

STRIDE = 2
AREAS_MM2 = (100.0, 200.0, 400.0, 800.0)
SLICES = (3, 5, 8)
ASSUMED_PIXEL_MM = 1.4
"""The 8-bit slices do not say how large a pixel is; 256 of these are a common field of view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScan:
    """The scores of one scan, by area and then by slice, and whether it has a lesion."""

    name: str
    has_lesions: bool
    scores: Mapping[float, Mapping[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What a rule does on the known scans; the operating point is the best one for it.

    ``margin`` is the distance from the operating point to the nearest score.
    """

    rule: PresenceRule
    sensitivity: float
    specificity: float
    margin: float

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2


def known_phantoms(
    model: OnnxModel, specs: Sequence[PhantomSpec], say: Callable[[str], None]
) -> Iterator[KnownScan]:
    """Read phantoms through the live path, inside their true lungs."""
    for spec in specs:
        thorax = make_thorax(spec)
        lungs = thorax.left_lung | thorax.right_lung
        chosen = np.flatnonzero(lungs.any(axis=(1, 2)))[::STRIDE].tolist()
        found = model.probabilities(phantom_volume(thorax), chosen)
        channel = found[:, model.classes.index("lesion")]
        say(f"phantom {spec.seed}")
        yield KnownScan(
            name=f"phantom {spec.seed}",
            has_lesions=bool(thorax.lesion.any()),
            scores=_scores(channel, lungs[chosen], spec.pixel_spacing_mm**2),
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

    Balanced accuracy decides, then the margin.
    """
    found = [
        _best_point(scans, area, count) for area, count in itertools.product(AREAS_MM2, SLICES)
    ]
    return sorted(found, key=lambda one: (one.balanced_accuracy, one.margin), reverse=True)


def _best_point(scans: Sequence[KnownScan], area: float, count: int) -> RuleOutcome:
    rule = _rule(area, count, 0.5)
    scores = np.array([decide(scan.scores[area], rule).score for scan in scans])
    truth = np.array([scan.has_lesions for scan in scans])
    ordered = np.unique(np.concatenate([[0.0], scores, [1.0]]))
    tried = []
    for low, high in itertools.pairwise(ordered):
        point = round(float(low + high) / 2, 3)
        positive = scores >= point
        tried.append(
            RuleOutcome(
                rule=_rule(area, count, point),
                sensitivity=float(positive[truth].mean()),
                specificity=float((~positive[~truth]).mean()),
                margin=float(high - low) / 2,
            )
        )
    return max(tried, key=lambda one: (one.balanced_accuracy, one.margin))
