"""The report on painted opacities: scans of a phantom, and what their records add up to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra rales[train] is not installed")

from hu_models import LesionsKnown, LungsKnown, models
from labelled_chest import chest_of
from PIL import Image

from inference.ports import ModelSet
from phantom import Thorax
from training.metrics import Mask
from training.real_labels.split import KnownChest
from training.report.figures import operating_curves
from training.report.painted import part_without_lesions, read_painted
from training.report.painted_section import painted_section
from training.report.painted_summary import found_at, painted_summary
from training.report.records import UNTOUCHED, PaintedRecord
from training.scenes import Scene


def networks(thorax: Thorax, marked: Mask) -> ModelSet:
    lungs = LungsKnown(left=thorax.left_lung, right=thorax.right_lung)
    return models(lungs, LesionsKnown(marked))


def test_every_kind_is_painted_and_what_was_missed_is_shown(healthy_thorax: Thorax) -> None:
    """A network that marks nothing finds only the lung without air, which nobody can assess."""
    nothing = np.zeros(healthy_thorax.hu.shape, dtype=bool)
    found = list(
        read_painted(chest_of(healthy_thorax), "test", 1, networks(healthy_thorax, nothing))
    )
    records = {reading.record.kind: reading.record for reading in found}
    assert list(records) == [UNTOUCHED, *Scene]
    assert records.pop(UNTOUCHED).painted_ml == 0
    assert records["lung"].call == "not assessable"
    assert records["lung"].lesion_dice is None
    for reading in found:
        record = reading.record
        assert record.marked_ml == record.certain_ml == 0
        missed = record.call == "negative" and record.painted_ml >= 5
        assert len(reading.tiles) == missed
    assert records["usual"].lesion_dice == 0
    assert len({record.seed for record in records.values()}) == len(Scene)
    assert min(record.seed for record in records.values()) > 12000


def test_what_is_marked_in_an_untouched_scan_is_a_false_alarm(healthy_thorax: Thorax) -> None:
    block = np.zeros(healthy_thorax.hu.shape, dtype=bool)
    places = np.argwhere(healthy_thorax.right_lung)
    centre = places[np.abs(places - np.median(places, axis=0)).sum(axis=1).argmin()]
    block[tuple(slice(at - 4, at + 5) for at in centre)] = True
    pair = networks(healthy_thorax, block & healthy_thorax.right_lung)
    first = next(read_painted(chest_of(healthy_thorax), "selection", 1, pair))
    record = first.record
    assert (record.kind, record.call, record.seed % 3) == (UNTOUCHED, "positive", 0)
    assert record.marked_ml == record.false_ml > 0
    assert record.certain_ml > record.rule_ml
    (tile,) = first.tiles
    assert tile.found.any()


def test_only_a_part_without_lesions_that_was_not_trained_on_is_painted(
    healthy_thorax: Thorax,
) -> None:
    chest = chest_of(healthy_thorax)
    normal = KnownChest(part="selection", normal=True, free=None)
    assert part_without_lesions(chest, replace(normal, part="train")) is None
    assert part_without_lesions(chest, replace(normal, normal=False)) is None
    whole = part_without_lesions(chest, normal)
    assert whole is not None
    assert whole.hu.shape == chest.hu.shape
    part = part_without_lesions(chest, replace(normal, normal=False, free=(2, 9)))
    assert part is not None
    assert part.hu.shape[0] == part.lungs.shape[0] == part.lesion.shape[0] == 7


def scan(kind: str, painted_ml: float, certain_ml: float, **values: object) -> PaintedRecord:
    content: dict[str, object] = {
        "chest": "a",
        "part": "test",
        "kind": kind,
        "seed": 12001,
        "call": "positive" if certain_ml >= 2 else "negative",
        "reason": None,
        "painted_ml": painted_ml,
        "certain_ml": certain_ml,
        "rule_ml": 2.0,
        "marked_ml": certain_ml,
        "marked_share": None if kind == UNTOUCHED else 0.5,
        "false_ml": 0.0,
        "lesion_dice": None if kind == UNTOUCHED else 0.8,
        "involved_percent": certain_ml / 10,
    }
    return PaintedRecord(**(content | values))  # type: ignore[arg-type]


SCANS = (
    scan(UNTOUCHED, 0.0, 0.0),
    scan(UNTOUCHED, 0.0, 3.0),
    scan(UNTOUCHED, 0.0, 0.6, chest="b", part="selection"),
    scan("usual", 1.0, 0.7, lesion_dice=0.0),
    scan("usual", 8.0, 5.0),
    scan("usual", 40.0, 30.0, lesion_dice=0.9),
    scan("lung", 900.0, 0.0, call="not assessable", lesion_dice=None),
    scan("lung", 900.0, 0.0, call="refused", reason="no lungs", lesion_dice=0.0),
)


def test_scans_are_counted_by_kind_and_volume() -> None:
    found = painted_summary(SCANS)
    usual, lung, every = found.kinds
    assert [kind.kind for kind in found.kinds] == ["usual", "lung", "all"]
    assert (usual.scans, usual.found.count) == (3, 3)
    assert usual.found.mean == pytest.approx(2 / 3)
    assert [part.found.count for part in usual.bins] == [1, 0, 1, 0, 1, 0]
    assert usual.bins[4].lesion_dice.mean == 0.9
    assert (lung.not_assessable, lung.refused) == (1, 1)
    assert lung.found.mean == 0.5
    assert lung.lesion_dice.count == 1
    assert every.scans == 5
    assert found.found_from_5_ml.count == 4
    assert found.found_from_5_ml.mean == 0.75
    assert found.dice_from_10_ml.mean == pytest.approx(0.45)


def test_a_positive_scan_in_which_something_else_is_marked_is_not_found() -> None:
    elsewhere = painted_summary([scan("usual", 8.0, 5.0, marked_share=0.05)])
    assert elsewhere.kinds[0].found.mean == 0
    assert elsewhere.thresholds[2].found["usual"].mean == 1


def test_false_alarms_are_counted_by_chest() -> None:
    first, second = painted_summary(SCANS).untouched
    assert (first.chest, first.positive.mean, first.involved_most) == ("a", 0.5, 0.3)
    assert (second.chest, second.part, second.positive.mean) == ("b", "selection", 0.0)


def test_another_volume_of_the_rule_finds_more_and_raises_more_false_alarms() -> None:
    found = painted_summary(SCANS)
    assert [row.volume_ml for row in found.thresholds] == [0.5, 1.0, 2.0, 4.0, 8.0]
    low, shipped = found.thresholds[0], found.thresholds[2]
    assert low.false_positive.mean == pytest.approx(2 / 3)
    assert shipped.false_positive.mean == pytest.approx(1 / 3)
    assert low.found["usual"].mean == 1.0
    assert shipped.found["usual"].mean == found.kinds[0].found.mean
    assert {row.found["lung"].mean for row in found.thresholds} == {0.5}
    assert found_at([], 2.0).mean is None


def test_the_section_names_its_limits_and_writes_no_number_that_does_not_exist() -> None:
    text = painted_section(painted_summary(SCANS), ["painted-curves"])
    assert "a (test), b (selection)" in text
    assert "the same generator, with other seeds and in other chests" in text
    assert "| 30–100 ml | ≥ 100 ml | not assessable | refused |" in text  # noqa: RUF001
    assert "1 of 2 [9%, 91%] | 1 | 1 |" in text
    assert "the shipped one is 2 ml" in text
    assert "(figures/painted-curves.png)" in text
    assert "painted-missed" not in text
    assert "None" not in text
    assert painted_section(None, []) == ""


def test_the_curves_are_drawn_for_chests_and_kinds(tmp_path: Path) -> None:
    operating_curves(tmp_path / "curves.png", SCANS)
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 200
