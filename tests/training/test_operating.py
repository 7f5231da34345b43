"""The choice of the presence rule, on scans with made-up scores."""

from __future__ import annotations

import numpy as np
import pytest
from linear_models import ModelFolder

from inference.phantom import small_spec
from inference.session import load_model
from inference.training.data import RIGHT, SliceSet
from inference.training.operating import (
    AREAS_MM2,
    SLICES,
    KnownScan,
    known_phantoms,
    known_volumes,
    outcomes,
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
        scan(has_lesions=False, small=0.1, large=0.1),
    ]
    found = outcomes(scans)
    assert len(found) == len(AREAS_MM2) * len(SLICES)
    best, worst = found[0], found[-1]
    assert best.rule.top_area_mm2 > AREAS_MM2[0]
    assert (best.sensitivity, best.specificity) == (1.0, 1.0)
    assert best.rule.operating_point == pytest.approx(0.45)
    assert best.margin == pytest.approx(0.25)
    assert worst.rule.top_area_mm2 == AREAS_MM2[0]
    assert worst.balanced_accuracy == 0.75


def test_phantoms_are_scored_inside_their_lungs(folder_of_models: ModelFolder) -> None:
    """A network that calls everything a lesion scores 1, whatever the phantom holds."""
    spec = small_spec(lesions=(), shape=(14, 64, 64), slice_spacing_mm=20.0, pixel_spacing_mm=6.0)
    manifest = folder_of_models.write("lesions", [[0.0, 90.0, 0.0]], activation="sigmoid")
    model = load_model(manifest, provider="CPU", threads=1)
    said: list[str] = []
    (found,) = known_phantoms(model, [spec], said.append)
    assert not found.has_lesions
    assert said == ["phantom 1"]
    assert set(found.scores) == set(AREAS_MM2)
    assert max(found.scores[AREAS_MM2[0]].values()) > 0.99


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
