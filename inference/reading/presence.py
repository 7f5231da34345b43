"""Decides whether a scan has a lesion, by the volume of lung that is marked with certainty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chestct.method import Presence
from inference.ports import PresenceRule

OPERATING_POINT = 0.5
"""The score of a scan with exactly the volume of the rule."""


def certain(
    probability: NDArray[np.floating[Any]], lungs: NDArray[np.bool_], certainty: float
) -> NDArray[np.bool_]:
    """Return the lung that is marked with certainty.

    Args:
        probability: float, 0..1.
        lungs: bool, likewise.
        certainty: The least probability that counts.
    """
    return (probability >= certainty) & lungs


def decide(volumes: Iterable[float], rule: PresenceRule) -> Presence:
    """Decide on the volumes (ml) that are :func:`certain` in the slices that were read.

    Each slice stands for ``stride`` slices. The score grows with the volume from 0 towards 1, and
    is 0.5, the operating point, at the volume of the rule.
    """
    certain = rule.stride * sum(volumes)
    return Presence(score=certain / (certain + rule.volume_ml), operating_point=OPERATING_POINT)
