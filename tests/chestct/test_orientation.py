"""A canonical view shows the same voxels at the same places, however they are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_ways import WAYS, Way, stored

from chestct.orientation import CanonicalView, canonical
from chestct.volume import LesionMap, Volume
from phantom.volume import canonical_volume

SPACING = (2.5, 0.8, 0.7)


def some_volume(turned: float = 0.0) -> Volume:
    """Return a volume whose voxels all differ; its rows are ``turned`` degrees from the left."""
    hu = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    volume = canonical_volume(hu, SPACING, (-40.0, 12.5, -300.0))
    cosine, sine = float(np.cos(np.radians(turned))), float(np.sin(np.radians(turned)))
    grid = {"row_cosines": (cosine, sine, 0.0), "column_cosines": (-sine, cosine, 0.0)}
    return replace(volume, geometry=replace(volume.geometry, **grid))


@pytest.mark.parametrize("turned", [0.0, 12.0, -29.0])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_of_storage_has_one_canonical_view(way: Way, turned: float) -> None:
    volume = some_volume(turned)
    shown = canonical(stored(volume, way))
    assert np.array_equal(shown.hu, volume.hu)
    assert shown.sources == volume.sources
    assert shown.geometry.shape == volume.geometry.shape
    assert shown.geometry.spacing == volume.geometry.spacing
    np.testing.assert_allclose(shown.geometry.affine, volume.geometry.affine, atol=1e-9)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_label_map_returns_to_the_stored_grid(way: Way) -> None:
    grid = stored(some_volume(), way).geometry
    labels = np.random.default_rng(1).integers(0, 3, grid.shape).astype(np.uint8)
    view = CanonicalView.of(grid)
    shown = view.lesion_map(LesionMap(labels=labels, geometry=grid))
    assert shown.geometry == view.geometry
    assert np.array_equal(view.turn_back(shown.labels), labels)


@given(
    way=st.sampled_from(WAYS),
    index=st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)),
)
def test_a_canonical_index_has_its_stored_index(way: Way, index: tuple[int, int, int]) -> None:
    volume = stored(some_volume(), way)
    view = CanonicalView.of(volume.geometry)
    there = view.stored_index(index)
    assert volume.hu[tuple(map(int, there))] == view.turn(volume.hu)[index]
    assert volume.geometry.position(there) == pytest.approx(view.geometry.position(index))


def test_a_canonical_grid_is_shown_as_it_is() -> None:
    volume = some_volume()
    view = CanonicalView.of(volume.geometry)
    assert view.is_stored
    assert view.geometry == volume.geometry
    assert np.shares_memory(view.turn(volume.hu), volume.hu)
