"""The choice of the presence rule, on scans with made-up scores."""

from __future__ import annotations

import numpy as np
import pytest
from hu_models import LesionsKnown, LungsKnown, models
from hypothesis import given
from hypothesis import strategies as st
from linear_models import ModelFolder

from inference.manifest import read_manifest
from inference.phantom import Thorax
from inference.ports import PresenceRule
from inference.session import load_model
from inference.training.data import RIGHT, SliceSet
from inference.training.operating import (
    AREAS_MM2,
    SLICES,
    STRIDE,
    KnownScan,
    KnownVolume,
    known_scans,
    known_volumes,
    outcomes,
    validation_phantoms,
    write_rule,
    wrong,
)


def scan(*, has_lesions: bool, small: float, large: float) -> KnownScan:
    """Return a scan of ten equal slices: a score over the smallest area, one over the others."""
    scores = {area: dict.fromkeys(range(10), large) for area in AREAS_MM2}
    scores[AREAS_MM2[0]] = dict.fromkeys(range(10), small)
    return KnownScan(name="made up", has_lesions=has_lesions, scores=scores)


def test_the_rule_that_separates_best_stands_first() -> None:
    """Over a small area vessels score as high as lesions; over a large one they do not."""
    scans = [
        scan(has_lesions=True, small=0.9, large=0.8),
        scan(has_lesions=True, small=0.95, large=0.7),
        scan(has_lesions=False, small=0.99, large=0.2),
        scan(has_lesions=False, small=0.97, large=0.1),
    ]
    found = outcomes(scans)
    assert len(found) == len(AREAS_MM2) * len(SLICES)
    best, worst = found[0], found[-1]
    assert best.rule.top_area_mm2 > AREAS_MM2[0]
    assert (best.sensitivity, best.specificity, best.wrong) == (1.0, 1.0, 0)
    assert 0.3 < best.rule.operating_point < 0.6
    assert best.separation > 2
    assert worst.rule.top_area_mm2 == AREAS_MM2[0]
    assert worst.wrong == 2


def test_one_more_scan_is_chance_where_the_kinds_lie_far_apart() -> None:
    clear = [scan(has_lesions=True, small=0.97, large=0.98) for _ in range(20)]
    scans = [
        *clear,
        scan(has_lesions=True, small=0.96, large=0.01),
        *(scan(has_lesions=False, small=0.95, large=0.02) for _ in range(20)),
    ]
    best = outcomes(scans)[0]
    assert best.rule.top_area_mm2 > AREAS_MM2[0]
    assert best.wrong == 1


def test_the_point_lies_near_the_kind_that_is_less_spread() -> None:
    scans = [
        *(scan(has_lesions=False, small=score, large=score) for score in (0.02, 0.03, 0.04)),
        *(scan(has_lesions=True, small=score, large=score) for score in (0.6, 0.9, 0.99, 0.8)),
    ]
    best = outcomes(scans)[0]
    assert 0.09 < best.rule.operating_point < 0.25  # the middle of the gap is 0.32


@given(
    without=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    with_lesions=st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_no_other_point_is_right_more_often(
    without: list[float], with_lesions: list[float]
) -> None:
    scans = [scan(has_lesions=False, small=score, large=score) for score in without]
    scans += [scan(has_lesions=True, small=score, large=score) for score in with_lesions]
    best = outcomes(scans)[0]
    for point in np.linspace(0.0005, 0.9995, 40):
        sensitivity = np.mean([score >= point for score in with_lesions])
        specificity = np.mean([score < point for score in without])
        assert (sensitivity + specificity) / 2 <= best.balanced_accuracy + 0.51 / len(scans)


def test_scans_are_scored_inside_the_lungs_that_are_found(small_thorax: Thorax) -> None:
    """A lesion network that calls everything a lesion scores as high as it can."""
    known = LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung)
    lesions = LesionsKnown(lesion=np.ones(small_thorax.hu.shape, dtype=bool))
    scan = KnownVolume(name="known", volume=small_thorax.volume(), has_lesions=True)
    said: list[str] = []
    (found,) = known_scans(models(known, lesions), [scan], said.append)
    assert found.has_lesions
    assert said == ["known"]
    assert set(found.scores) == set(AREAS_MM2)
    slices = small_thorax.left_lung.any(axis=(1, 2)) | small_thorax.right_lung.any(axis=(1, 2))
    assert 0 < len(lesions.read) <= -(-slices.sum() // STRIDE)
    assert max(found.scores[AREAS_MM2[0]].values()) == pytest.approx(0.9)


def test_every_third_validation_scan_has_no_lesion() -> None:
    found = list(validation_phantoms(range(1002, 1005)))
    assert [scan.has_lesions for scan in found] == [False, False, True, True, True, True]
    assert len({scan.name for scan in found}) == 6


def test_the_scans_on_which_a_rule_is_wrong_are_named() -> None:
    scans = [
        scan(has_lesions=True, small=0.2, large=0.8),
        scan(has_lesions=False, small=0.9, large=0.2),
    ]
    small, large = (
        PresenceRule(top_area_mm2=area, slices=3, stride=2, operating_point=0.5)
        for area in AREAS_MM2[:2]
    )
    assert wrong(scans, large) == []
    assert wrong(scans, small) == [("made up", pytest.approx(0.2)), ("made up", pytest.approx(0.9))]


def test_volumes_are_scored_inside_their_lungs(folder_of_models: ModelFolder) -> None:
    images = np.zeros((6, 16, 16), dtype=np.uint8)
    images[:, :8] = 255
    lungs = np.zeros((6, 16, 16), dtype=np.uint8)
    lungs[:3, :8], lungs[3:, 8:] = RIGHT, RIGHT
    data = SliceSet(
        images=images,
        lungs=lungs,
        lesions=lungs > 0,
        volumes=np.repeat([0, 1], 3),
        names=("0", "1"),
    )
    model = load_model(folder_of_models.write("lesions", [[1.0]]), provider="CPU", threads=1)
    bright, dark = known_volumes(model, data)
    assert bright.has_lesions
    assert set(bright.scores[100.0].values()) == {1.0}
    assert set(dark.scores[100.0].values()) == {0.0}


def test_the_rule_goes_into_the_manifest_and_nothing_else_changes(
    folder_of_models: ModelFolder,
) -> None:
    path = folder_of_models.write("lesions", [[1.0]])
    before = read_manifest(path)
    rule = PresenceRule(top_area_mm2=400.0, slices=8, stride=3, operating_point=0.625)
    write_rule(path, rule)
    after = read_manifest(path)
    assert after.presence is not None
    assert PresenceRule(**after.presence.model_dump()) == rule
    assert after.model_copy(update={"presence": before.presence}) == before


def test_a_manifest_without_a_rule_takes_none(folder_of_models: ModelFolder) -> None:
    path = folder_of_models.write("lungs", [[1.0], [0.0], [0.0]])
    with pytest.raises(ValueError, match=r"no \[presence\]"):
        write_rule(path, PresenceRule(top_area_mm2=1.0, slices=1, stride=1, operating_point=0.5))
