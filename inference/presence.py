"""Is there a lesion at all? A score of the scan from the lesion probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from chestct.findings import Presence
from inference.ports import PresenceRule


def slice_score(
    probability: NDArray[np.float32], lungs: NDArray[np.bool_], pixel_mm2: float, rule: PresenceRule
) -> float:
    """Return the mean of the highest probabilities inside the lungs over the rule's area.

    Args:
        probability: float32 (row, column), 0..1.
        lungs: bool (row, column).
        pixel_mm2: Area of one pixel.
        rule: ``top_area_mm2`` is used.
    """
    inside = probability[lungs]
    count = max(1, round(rule.top_area_mm2 / pixel_mm2))
    if inside.size < count:
        return 0.0
    return float(np.partition(inside, inside.size - count)[-count:].mean())


def decide(scores: Mapping[int, float], rule: PresenceRule) -> Presence:
    """Decide on the scores of the slices that were looked at.

    The mean of the best few slices counts: one bright artefact alone makes no finding.
    """
    best = sorted(scores.values(), reverse=True)[: rule.slices]
    score = float(np.mean(best)) if best else 0.0
    return Presence(score=score, operating_point=rule.operating_point)
