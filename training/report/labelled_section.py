"""The part of the report on labelled chests."""

from __future__ import annotations

from collections.abc import Sequence

from training.report.markup import blocks, number, picture, table
from training.report.records import Evaluation, LabelledRecord

_ROLES = {
    "test": "nothing was trained on these chests and nothing was chosen by them",
    "selection": "not trained on, but they chose the presence rule: their calls are flattered",
    "train": "the networks learned from these chests: they show only what is wrong even so",
}


def labelled_section(evaluation: Evaluation, figures: Sequence[str]) -> str:
    """Return the section on labelled chests; empty without them."""
    chests = evaluation.labelled
    if not chests:
        return ""
    named = {part: [chest.name for chest in chests if chest.part == part] for part in _ROLES}
    roles = [
        f"- **{part}**: {_ROLES[part]} ({', '.join(names)})."
        for part, names in named.items()
        if names
    ]
    return blocks(
        "## Labelled chests: true HU, from neck to abdomen",
        "The whole analysis as the node runs it, on the frame (slabs of about 3 mm, pixels of "
        "1.35 mm), against labels of lungs and lesions. An engineer, no radiologist, made these "
        "labels; the lesion labels began with what an earlier lesion network marked, so their "
        "Dice is kind to the networks. Voxels that nobody can judge are left out.",
        "\n".join(roles),
        table(_LUNG_HEAD, map(_lung_row, chests)),
        table(_LESION_HEAD, map(_lesion_row, chests)),
        *(picture(name, _caption(name), figures) for name in figures if name.startswith(_PICTURE)),
    )


_PICTURE = "labelled-"
_LUNG_HEAD = (
    "chest",
    "part",
    "right lung Dice",
    "left lung Dice",
    "lungs ml",
    "missed ml",
    "extra ml",
    "outside the body ml",
    "seconds",
)
_LESION_HEAD = (
    "chest",
    "part",
    "called",
    "score",
    "marked ml",
    "true ml",
    "unknown ml",
    "false ml",
    "missed ml",
    "lesion Dice",
    "involved %",
)


def _lung_row(chest: LabelledRecord) -> list[str]:
    return [
        chest.name,
        chest.part,
        number(chest.right_lung_dice, 3),
        number(chest.left_lung_dice, 3),
        number(chest.true_lung_ml, 0),
        number(chest.missed_lung_ml, 0),
        number(chest.extra_lung_ml, 0),
        number(chest.outside_body_ml, 1),
        number(chest.seconds, 1),
    ]


def _lesion_row(chest: LabelledRecord) -> list[str]:
    return [
        chest.name,
        chest.part,
        f"{chest.call}: {chest.reason}" if chest.reason else chest.call,
        number(chest.score, 3),
        number(chest.lesion_ml, 1),
        "none" if chest.normal else number(chest.true_lesion_ml, 1),
        number(chest.unknown_ml, 1),
        number(chest.false_ml, 1),
        number(chest.missed_ml, 1),
        number(chest.lesion_dice),
        number(chest.involved_percent),
    ]


def _caption(name: str) -> str:
    return f"{name.removeprefix(_PICTURE)}: every fifth slab, from the feet"
