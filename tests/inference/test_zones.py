"""Where in a lung its lesions are, on lungs whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from chestct.findings import LungMeasurement, Side, Zone
from chestct.findings_json import lung_from_dict
from chestct.geometry import Geometry, Vector
from inference.reading.zones import measure_zones

SPACING = (5.0, 2.0, 1.0)
Mask = NDArray[np.bool_]


def chest() -> tuple[Mask, Mask]:
    """Return a left lung of 150 x 160 x 90 mm over a diaphragm dome; slices run to the head.

    The patient's left is at high columns. The dome reaches 60 mm into the lung.
    """
    z, y, x = np.meshgrid(
        *(np.arange(size) * step for size, step in zip((40, 100, 120), SPACING, strict=True)),
        indexing="ij",
    )
    inside = (abs(z - 100) < 75) & (abs(y - 100) < 80) & (abs(x - 60) < 45)
    dome = ((z - 20) / 65) ** 2 + ((y - 100) / 60) ** 2 + ((x - 50) / 38) ** 2 < 1
    return inside & ~dome, np.zeros(z.shape, bool)


def ball(at: Vector) -> tuple[slice, slice, slice]:
    """Return a cube of about 10 mm around a point (slice, row, column) in mm."""
    z, y, x = (
        slice(int((centre - 5) / step), int((centre + 5) / step) + 1)
        for centre, step in zip(at, SPACING, strict=True)
    )
    return z, y, x


GEOMETRY = Geometry(
    shape=(40, 100, 120),
    origin=(0.0, 0.0, 0.0),
    row_cosines=(1.0, 0.0, 0.0),
    column_cosines=(0.0, 1.0, 0.0),
    pixel_spacing=SPACING[1:],
    slice_spacing=SPACING[0],
)


def involved(lung: Mask, lesion: Mask, side: Side = Side.LEFT) -> set[Zone]:
    zones = measure_zones(lung, lesion, GEOMETRY, side)
    return {zone.zone for zone in zones if zone.lesion_ml}


@pytest.mark.parametrize(
    ("at", "zones"),
    [
        pytest.param((100, 100, 97), {Zone.MIDDLE, Zone.PERIPHERAL}, id="lateral wall"),
        pytest.param((100, 172, 60), {Zone.MIDDLE, Zone.PERIPHERAL}, id="at the back"),
        pytest.param((168, 100, 60), {Zone.UPPER, Zone.PERIPHERAL}, id="apex"),
        pytest.param((100, 100, 25), {Zone.MIDDLE, Zone.CENTRAL}, id="hilum"),
        pytest.param((130, 100, 55), {Zone.UPPER, Zone.CENTRAL}, id="core"),
        pytest.param((40, 100, 96), {Zone.LOWER, Zone.PERIPHERAL}, id="costophrenic recess"),
    ],
)
@pytest.mark.parametrize("side", Side)
def test_a_lesion_is_in_the_zone_where_it_was_put(at: Vector, zones: set[Zone], side: Side) -> None:
    lung, lesion = chest()
    lesion[ball(at)] = True
    step = 1 if side is Side.LEFT else -1
    assert involved(lung[..., ::step], (lesion & lung)[..., ::step], side) == zones


def test_a_vessel_through_the_lung_is_no_surface_of_it() -> None:
    lung, lesion = chest()
    lung[24:26, 50:54, 10:60] = False
    lesion[ball((118, 104, 50))] = True
    assert involved(lung, lesion & lung) == {Zone.MIDDLE, Zone.CENTRAL}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (3, 1, 1)])
def test_a_lung_of_few_voxels_has_zones(shape: tuple[int, int, int]) -> None:
    lung = np.zeros((40, 100, 120), bool)
    lung[tuple(slice(7, 7 + size) for size in shape)] = True
    zones = measure_zones(lung, lung, GEOMETRY, Side.LEFT)
    assert sum(zone.volume_ml for zone in zones[3:]) == pytest.approx(lung.sum() * 0.01)


def test_without_a_lung_there_are_no_zones() -> None:
    nothing = np.zeros((40, 100, 120), bool)
    assert measure_zones(nothing, nothing, GEOMETRY, Side.LEFT) == ()


def test_a_result_of_an_older_version_has_thirds_only() -> None:
    third = {"volume_ml": 500.0, "lesion_ml": 5.0, "involved_percent": 1.0}
    plain = {
        "volume_ml": 1500.0,
        "lesion_ml": 15.0,
        "involved_percent": 1.0,
        "high_opacity_percent": 0.0,
        "lesion_mean_hu": -500.0,
        "zones": [third | {"zone": name} for name in ("upper", "middle", "lower")],
    }
    lung = lung_from_dict(plain)
    assert isinstance(lung, LungMeasurement)
    assert [zone.zone for zone in lung.zones] == [Zone.UPPER, Zone.MIDDLE, Zone.LOWER]
