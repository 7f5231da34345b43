"""The report on labelled chests: measured on a phantom, written with its goals and pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hu_models import LesionsKnown, LungsKnown, models
from labelled_chest import chest_of

from phantom import Thorax
from training.chests import LabelledChest
from training.data import IGNORE
from training.metrics import Mask
from training.real_labels.split import KnownChest, known_chests
from training.report.document import document
from training.report.labelled import read_labelled
from training.report.records import Evaluation, LabelledRecord, RunRecord
from training.report.summary import summarise

ASIDE = KnownChest(part="test", normal=False, free=None)


def record_of(
    chest: LabelledChest, thorax: Thorax, found: Mask, known: KnownChest = ASIDE
) -> LabelledRecord:
    lungs = LungsKnown(left=thorax.left_lung, right=thorax.right_lung)
    return read_labelled(chest, known, models(lungs, LesionsKnown(found))).record


def test_a_perfect_result_agrees_with_the_labels(small_thorax: Thorax) -> None:
    chest, truth = chest_of(small_thorax), small_thorax.lesion > 0
    found = record_of(chest, small_thorax, truth)
    assert (found.call, found.part, found.reason) == ("positive", "test", None)
    assert min(found.right_lung_dice, found.left_lung_dice) > 0.95
    assert found.lesion_dice is not None
    assert found.lesion_dice > 0.9
    assert found.outside_body_ml == found.unknown_ml == 0
    balance = found.true_lesion_ml + found.false_ml - found.missed_ml
    assert found.lesion_ml == pytest.approx(balance)
    assert found.true_lesion_ml == pytest.approx(
        truth.sum() * float(np.prod(small_thorax.spacing)) / 1000
    )


def test_what_nobody_can_judge_is_neither_false_nor_missed(small_thorax: Thorax) -> None:
    """The network marks the lesions of both lungs; the label is sure of the right lung only."""
    truth = small_thorax.lesion > 0
    sure = chest_of(small_thorax)
    left = truth & small_thorax.left_lung
    assert left.any()
    cleared = replace(sure, lesion=np.where(left, 0, sure.lesion).astype(np.uint8))
    unsure = replace(sure, lesion=np.where(left, IGNORE, sure.lesion).astype(np.uint8))
    false, ignored = (record_of(chest, small_thorax, truth) for chest in (cleared, unsure))
    assert false.unknown_ml == 0 < ignored.unknown_ml
    assert false.false_ml > ignored.false_ml + 0.8 * ignored.unknown_ml
    assert false.lesion_ml == ignored.lesion_ml
    assert false.lesion_dice is not None
    assert ignored.lesion_dice is not None
    assert false.lesion_dice < ignored.lesion_dice


def test_lung_outside_the_body_is_counted(small_thorax: Thorax) -> None:
    chest = chest_of(small_thorax)
    body = ~small_thorax.left_lung
    found = record_of(replace(chest, body=body), small_thorax, small_thorax.lesion > 0)
    whole = float(small_thorax.left_lung.sum()) * float(np.prod(small_thorax.spacing)) / 1000
    assert found.outside_body_ml == pytest.approx(whole, rel=0.1)


def test_a_refused_chest_has_nothing_found_and_a_reason(small_thorax: Thorax) -> None:
    none = np.zeros_like(small_thorax.left_lung)
    lesions = LesionsKnown(small_thorax.lesion > 0)
    refused = read_labelled(
        chest_of(small_thorax), ASIDE, models(LungsKnown(left=none, right=none), lesions)
    ).record
    assert refused.call == "refused"
    assert refused.reason is not None
    assert refused.score is None
    assert (refused.right_lung_dice, refused.lesion_dice, refused.lesion_ml) == (0, 0, 0)
    assert refused.missed_ml == refused.true_lesion_ml > 0


def test_chests_that_were_not_trained_on_are_shown_from_end_to_end(small_thorax: Thorax) -> None:
    lungs = LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung)
    pair = models(lungs, LesionsKnown(small_thorax.lesion > 0))
    shown = read_labelled(chest_of(small_thorax), ASIDE, pair).tiles
    assert [tile.place for tile in shown] == list(range(2, len(small_thorax.hu), 5))
    assert all(tile.image.shape[0] == tile.image.shape[1] for tile in shown)
    assert any(tile.truth is not None and tile.truth.any() for tile in shown)
    trained = replace(ASIDE, part="train")
    assert read_labelled(chest_of(small_thorax), trained, pair).tiles == ()


def test_the_split_says_which_chests_are_normal_and_where_the_test_chest_is_free() -> None:
    known = known_chests()
    normal = {name for name, chest in known.items() if chest.normal}
    assert normal == {"normal-2mm", "wide-fov-5mm", "head-to-chest-5mm"}
    assert known["lungdx-5mm"] == KnownChest(part="test", normal=False, free=(0, 38))


def labelled(name: str, **values: object) -> LabelledRecord:
    content: dict[str, object] = {
        "name": name,
        "part": "selection",
        "normal": False,
        "call": "positive",
        "reason": None,
        "score": 0.9,
        "right_lung_dice": 0.98,
        "left_lung_dice": 0.96,
        "true_lung_ml": 4000.0,
        "missed_lung_ml": 50.0,
        "extra_lung_ml": 40.0,
        "outside_body_ml": 0.0,
        "lesion_ml": 90.0,
        "true_lesion_ml": 100.0,
        "unknown_ml": 5.0,
        "false_ml": 2.0,
        "missed_ml": 12.0,
        "lesion_dice": 0.9,
        "involved_percent": 2.25,
        "seconds": 4.0,
    }
    return LabelledRecord(**(content | values))  # type: ignore[arg-type]


def text_of(*chests: LabelledRecord) -> str:
    run = RunRecord(
        date="",
        command="",
        versions={},
        cores=1,
        models=(),
        slices_part="validation",
        slices_sha256="",
        seconds={},
    )
    evaluation = Evaluation(
        provenance=run,
        patients=(),
        slices=(),
        mirror=(),
        labelled=chests,
        painted=(),
        cases=(),
        front_end=(),
        series=(),
        singles=(),
    )
    figures = [f"labelled-{chest.name}-1" for chest in chests]
    return document(evaluation, summarise(evaluation), figures)


def test_the_document_says_what_each_part_of_the_split_can_show() -> None:
    healthy: dict[str, object] = {"normal": True, "true_lesion_ml": 0.0, "lesion_dice": None}
    text = text_of(
        labelled("ill"),
        labelled("wide", part="train", outside_body_ml=3.0, involved_percent=1.5, **healthy),
        labelled("clean", call="negative", involved_percent=0.0, **healthy),
    )
    assert "- **selection**: not trained on, but they chose the presence rule" in text
    assert "(ill, clean)" in text
    assert "- **train**: the networks learned from these chests" in text
    assert "**test**" not in text
    assert "called negative | ≥ 0.9 | 0.500" in text
    assert "involvement, the highest | ≤ 1 % | 1.50 % | no |" in text
    assert "called positive | ≥ 0.9 | 1.000" in text
    assert "not trained on: lung Dice | ≥ 0.97 | 0.970" in text
    assert "labelled chests and series | ≤ 0 ml | 3.0 ml | no |" in text
    assert "| wide | train | positive | 0.900 | 90.0 | none |" in text
    assert "(figures/labelled-clean-1.png)" in text


def test_the_document_names_why_a_chest_was_refused() -> None:
    refused = labelled("far", call="refused", reason="no lungs", score=None)
    assert "| far | selection | refused: no lungs | - |" in text_of(refused)
