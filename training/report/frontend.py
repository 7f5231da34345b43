"""Measures the steps before the networks: each is changed, one at a time.

Live CT enters the networks through a fixed window. Cases with truth show how much depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.networks.session import OnnxModel
from training.metrics import dice
from training.report.cases import Case, probability_alone
from training.report.changes import Change, changed_model, changed_volume
from training.report.records import FrontEndRecord

MOST_SLICES = 12


def measure_change(
    case: Case, change: Change, lungs: OnnxModel, lesions: OnnxModel
) -> FrontEndRecord:
    """Run both networks alone, without presence and cleaning, on slices with lesions.

    Raises:
        ValueError: The case has no lesions.
    """
    chosen = _slices(case)
    volume = changed_volume(case.volume, change)
    inside = probability_alone(changed_model(lungs, change), volume, chosen) >= lungs.threshold
    lesion = probability_alone(changed_model(lesions, change), volume, chosen) >= lesions.threshold
    return FrontEndRecord(
        change=change.name,
        case=case.name,
        source=case.source,
        lesion_dice=dice(lesion & case.lungs[chosen], case.lesion[chosen]),
        lung_dice=dice(inside, case.lungs[chosen]),
    )


def _slices(case: Case) -> Sequence[int]:
    """Return at most :data:`MOST_SLICES` slices, evenly over those with lesions."""
    inside = np.flatnonzero(case.lesion.any(axis=(1, 2)))
    if not inside.size:
        raise ValueError(f"{case.name} has no lesions")
    places = np.linspace(0, inside.size - 1, min(MOST_SLICES, inside.size))
    chosen: list[int] = inside[np.round(places).astype(int)].tolist()
    return chosen
