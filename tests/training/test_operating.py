"""The choice of the presence rule, on scans with made-up scores."""

from __future__ import annotations

import numpy as np
import pytest
from hu_models import LesionsKnown, LungsKnown, models
from hypothesis import given
from hypothesis import strategies as st
from linear_models import ModelFolder

from inference.networks.manifest import read_manifest
from inference.networks.session import load_model
from inference.ports import PresenceRule
from phantom import Thorax
from training.chests import LabelledChest
from training.data import LEFT, RIGHT, SliceSet
from training.operating import (
    CERTAINTIES,
    STRIDE,
    KnownScan,
    KnownVolume,
    known_scans,
    known_volumes,
    outcomes,
    validation_chests,
    validation_phantoms,
    write_rule,
    wrong,
)


def scan(*, has_lesions: bool, least: float, other: float) -> KnownScan:
    """Return a scan of ten equal slices: ml at the least certainty, and at the others."""
    volumes = dict.fromkeys(CERTAINTIES, (other / (10 * STRIDE),) * 10)
    volumes[CERTAINTIES[0]] = (least / (10 * STRIDE),) * 10
    return KnownScan(name="made up", has_lesions=has_lesions, volumes=volumes)


def test_the_rule_that_separates_best_stands_first() -> None:
    """Vessels are marked like lesions, but with less certainty."""
    scans = [
        scan(has_lesions=True, least=9.0, other=8.0),
        scan(has_lesions=True, least=9.5, other=7.0),
        scan(has_lesions=False, least=9.9, other=0.2),
        scan(has_lesions=False, least=9.7, other=0.1),
    ]
    found = outcomes(scans)
    assert len(found) == len(CERTAINTIES)
    best, worst = found[0], found[-1]
    assert best.rule.certainty > CERTAINTIES[0]
    assert (best.sensitivity, best.specificity, best.wrong) == (1.0, 1.0, 0)
    assert 0.2 < best.rule.volume_ml < 7
    assert best.separation > 2
    assert worst.rule.certainty == CERTAINTIES[0]
    assert worst.wrong == 2


def test_one_more_scan_is_chance_where_the_kinds_lie_far_apart() -> None:
    clear = [scan(has_lesions=True, least=9.7, other=50) for _ in range(20)]
    scans = [
        *clear,
        scan(has_lesions=True, least=9.6, other=0.1),
        *(scan(has_lesions=False, least=9.5, other=0.2) for _ in range(20)),
    ]
    best = outcomes(scans)[0]
    assert best.rule.certainty > CERTAINTIES[0]
    assert best.wrong == 1


def test_the_volume_lies_near_the_kind_that_is_less_spread() -> None:
    scans = [
        *(scan(has_lesions=False, least=ml, other=ml) for ml in (0.2, 0.25, 0.3)),
        *(scan(has_lesions=True, least=ml, other=ml) for ml in (5, 90, 20, 60)),
    ]
    best = outcomes(scans)[0]
    assert 0.3 < best.rule.volume_ml < 1.2  # the middle of the gap, in logarithms, is 1.2


@given(
    without=st.lists(st.floats(0, 200), min_size=1, max_size=8),
    with_lesions=st.lists(st.floats(0, 200), min_size=1, max_size=8),
)
def test_no_other_volume_is_right_more_often(
    without: list[float], with_lesions: list[float]
) -> None:
    scans = [scan(has_lesions=False, least=ml, other=ml) for ml in without]
    scans += [scan(has_lesions=True, least=ml, other=ml) for ml in with_lesions]
    best = outcomes(scans)[0]
    for volume in np.geomspace(0.11, 99, 40):
        sensitivity = np.mean([ml >= volume for ml in with_lesions])
        specificity = np.mean([ml < volume for ml in without])
        assert (sensitivity + specificity) / 2 <= best.balanced_accuracy + 0.51 / len(scans)


def test_scans_are_scored_inside_the_lungs_that_are_found(small_thorax: Thorax) -> None:
    """A lesion network that gives 0.9 everywhere marks exactly the lungs that it read."""
    known = LungsKnown(left=small_thorax.left_lung, right=small_thorax.right_lung)
    lesions = LesionsKnown(lesion=np.ones(small_thorax.hu.shape, dtype=bool))
    scan = KnownVolume(name="known", volume=small_thorax.volume(), has_lesions=True)
    said: list[str] = []
    (found,) = known_scans(models(known, lesions), [scan], said.append)
    assert found.has_lesions
    assert said == ["known"]
    assert set(found.volumes) == set(CERTAINTIES)
    slices = small_thorax.left_lung.any(axis=(1, 2)) | small_thorax.right_lung.any(axis=(1, 2))
    assert 0 < len(lesions.read) <= -(-slices.sum() // STRIDE)
    assert STRIDE * sum(found.volumes[0.8]) > 0
    assert sum(found.volumes[0.95]) == 0


def test_every_third_validation_scan_has_no_lesion() -> None:
    found = list(validation_phantoms(range(1002, 1005)))
    assert [scan.has_lesions for scan in found] == [False, False, True, True, True, True]
    assert len({scan.name for scan in found}) == 6


def test_a_chest_is_free_of_lesions_has_one_that_must_be_found_or_is_left_out() -> None:
    lungs = np.zeros((20, 60, 90), np.uint8)
    lungs[2:18, 12:48, 10:40], lungs[2:18, 12:48, 50:80] = RIGHT, LEFT
    chest = LabelledChest(
        name="boxes",
        hu=np.where(lungs > 0, -850, 40).astype(np.int16),
        body=np.ones(lungs.shape, bool),
        lungs=lungs,
        lesion=np.zeros_like(lungs),
        spacing=(4.0, 3.0, 3.0),
    )
    known = list(validation_chests([chest], range(1, 31)))
    free = [scan.name for scan in known if not scan.has_lesions]
    assert set(free) == {f"boxes seed {seed}" for seed in range(3, 31, 3)}
    assert len(free) < len(known) <= 30
    for scan in known:
        assert scan.volume.geometry.spacing == chest.spacing
        if scan.has_lesions:
            assert (scan.volume.hu[lungs > 0] > -700).mean() > 0.005


def test_the_scans_on_which_a_rule_is_wrong_are_named() -> None:
    scans = [
        scan(has_lesions=True, least=1.0, other=8.0),
        scan(has_lesions=False, least=6.0, other=2.0),
    ]
    least, other = (
        PresenceRule(certainty=certainty, volume_ml=4.0, stride=STRIDE)
        for certainty in CERTAINTIES[:2]
    )
    assert wrong(scans, other) == []
    assert wrong(scans, least) == [("made up", pytest.approx(0.2)), ("made up", pytest.approx(0.6))]


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
    assert min(bright.volumes[0.98]) > 0
    assert set(dark.volumes[0.8]) == {0.0}


def test_the_rule_goes_into_the_manifest_and_nothing_else_changes(
    folder_of_models: ModelFolder,
) -> None:
    path = folder_of_models.write("lesions", [[1.0]])
    before = read_manifest(path)
    rule = PresenceRule(certainty=0.95, volume_ml=1.25, stride=3)
    write_rule(path, rule)
    after = read_manifest(path)
    assert after.presence is not None
    assert PresenceRule(**after.presence.model_dump()) == rule
    assert after.model_copy(update={"presence": before.presence}) == before


def test_a_manifest_without_a_rule_takes_none(folder_of_models: ModelFolder) -> None:
    path = folder_of_models.write("lungs", [[1.0], [0.0], [0.0]])
    with pytest.raises(ValueError, match=r"no \[presence\]"):
        write_rule(path, PresenceRule(certainty=0.9, volume_ml=1.0, stride=1))
