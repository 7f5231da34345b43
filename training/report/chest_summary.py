"""The figures of the report on real chests, computed from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.readings.reading import Call
from training.report.records import LabelledRecord
from training.report.statistics import Estimate, bootstrap, proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSummary:
    """The labelled chests, those that were trained on too unless a line says otherwise.

    Attributes:
        negative: Part of the chests without lesions that is called negative.
        involved_most: The highest percent involved of these chests.
        positive: Part of the chests with labelled lesions that is called positive.
        outside_most_ml: Lung outside the body, the highest of all chests.
        lung_dice: Mean by chest, of both lungs, over the chests that were not trained on.
    """

    negative: Estimate
    involved_most: float | None
    positive: Estimate
    outside_most_ml: float
    lung_dice: Estimate


def labelled_summary(chests: Sequence[LabelledRecord]) -> LabelledSummary:
    """Compute the figures of the labelled chests."""
    normal = [chest for chest in chests if chest.normal]
    ill = [chest for chest in chests if chest.true_lesion_ml > 0]
    return LabelledSummary(
        negative=proportion(sum(chest.call == Call.NEGATIVE for chest in normal), len(normal)),
        involved_most=max((chest.involved_percent for chest in normal), default=None),
        positive=proportion(sum(chest.call == Call.POSITIVE for chest in ill), len(ill)),
        outside_most_ml=max(chest.outside_body_ml for chest in chests),
        lung_dice=bootstrap(
            [
                (chest.right_lung_dice + chest.left_lung_dice) / 2
                for chest in chests
                if chest.part != "train"
            ]
        ),
    )
