"""Left is right and up is the front on every picture, however the source lies."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from notify_rig import HEALTHY
from numpy.typing import NDArray

from chestct.geometry import Geometry, Vector, cross
from chestct.method import Method, Presence
from chestct.uids import Uid
from chestct.volume import Label, LesionMap, SliceSource, Volume, is_lesion
from inference.reading.quantify import measure
from rales.pictures.tiles import axial_tile, front_view
from rales.pictures.upright import upright, zoom_on

SHAPE, SPACING = (30, 48, 64), (6.0, 5.0, 3.75)
"""Slices, rows and columns; non-square pixels of 180 x 240 x 240 mm."""
CENTRE = np.array([20.0, -30.0, 500.0])


def lying(row: Vector, column: Vector) -> Volume:
    """Return a volume around ``CENTRE`` whose axes run that way."""
    normal = np.array(cross(row, column))
    steps = np.stack(
        [normal * SPACING[0], np.array(column) * SPACING[1], np.array(row) * SPACING[2]]
    )
    origin = CENTRE - ((np.array(SHAPE) - 1) / 2) @ steps
    source = SliceSource(sop_class_uid=Uid("1.2"), sop_instance_uid=Uid("1.3"))
    return Volume(
        hu=np.full(SHAPE, -800, np.int16),
        geometry=Geometry(
            shape=SHAPE,
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            row_cosines=row,
            column_cosines=column,
            pixel_spacing=(SPACING[1], SPACING[2]),
            slice_spacing=SPACING[0],
        ),
        sources=(source,) * SHAPE[0],
        series_uid=Uid("1.4"),
        frame_of_reference_uid=Uid("1.5"),
    )


def away_from_centre(volume: Volume) -> NDArray[np.float64]:
    """Return how far each voxel lies to the left, back and head, by PS3.3 C.7.6.2.1.1 alone."""
    slices, rows, columns = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    geometry = volume.geometry
    row, column = np.array(geometry.row_cosines), np.array(geometry.column_cosines)
    return (
        np.array(geometry.origin)
        + columns[..., None] * SPACING[2] * row
        + rows[..., None] * SPACING[1] * column
        + slices[..., None] * SPACING[0] * np.cross(row, column)
        - CENTRE
    )


def red(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    colours = picture.astype(int)
    return (colours[..., 0] > 140) & (colours[..., 2] < 130) & (colours[..., 1] < 130)


@pytest.mark.parametrize("turned", [0.0, 15.0], ids=["straight", "oblique"])
@pytest.mark.parametrize(("across", "down"), list(product((1, -1), (1, -1))))
def test_left_front_and_head_are_where_a_reader_expects_them(
    across: int, down: int, turned: float
) -> None:
    cosine, sine = float(np.cos(np.radians(turned))), float(np.sin(np.radians(turned)))
    row, column = (across * cosine, across * sine, 0.0), (-down * sine, down * cosine, 0.0)
    volume = lying(row, column)
    left, back, head = np.moveaxis(away_from_centre(volume), -1, 0)
    labels = np.full(SHAPE, Label.BACKGROUND, np.uint8)
    labels[(abs(left) < 100) & (abs(back) < 80)] = Label.RIGHT_LUNG
    # 60 mm wide, 20 mm deep, to the left, in front, above.
    labels[(abs(left - 55) <= 30) & (abs(back + 45) <= 10) & (abs(head - 50) <= 12)] = (
        Label.LEFT_GROUND_GLASS
    )
    shown = upright(volume, LesionMap(labels=labels, geometry=volume.geometry))
    index = int((shown.labels == Label.LEFT_GROUND_GLASS).sum(axis=(1, 2)).argmax())
    assert index > SHAPE[0] / 2, "slices run from feet to head"
    tile = red(axial_tile(shown, index, 320).pixels)
    downs, acrosses = np.nonzero(tile)
    middle = tile.shape[0] / 2
    assert acrosses.mean() > middle + 20
    assert downs.mean() < middle - 20
    front = red(front_view(shown, HEALTHY, (), 320).pixels)
    downs, acrosses = np.nonzero(front)
    assert acrosses.mean() > middle + 20
    assert downs.mean() < middle - 20
    if not turned:
        width, height = np.ptp(np.nonzero(tile)[1]), np.ptp(np.nonzero(tile)[0])
        assert width / height == pytest.approx(3, rel=0.35)


WAYS = [
    *(((float(a), 0.0, 0.0), (0.0, float(b), 0.0)) for a, b in product((1, -1), (1, -1))),
    *(((0.0, float(a), 0.0), (float(b), 0.0, 0.0)) for a, b in product((1, -1), (1, -1))),
]


@pytest.mark.parametrize(("row", "column"), WAYS)
def test_a_zoom_shows_the_lesion_that_it_names(row: Vector, column: Vector) -> None:
    volume = lying(row, column)
    left, back, head = np.moveaxis(away_from_centre(volume), -1, 0)
    labels = np.full(SHAPE, Label.BACKGROUND, np.uint8)
    labels[(abs(left) < 70) & (abs(back) < 70)] = Label.RIGHT_LUNG
    labels[(left > 0) & (labels == Label.RIGHT_LUNG)] = Label.LEFT_LUNG
    labels[(abs(left - 50) <= 13) & (abs(back + 45) <= 8) & (abs(head - 50) <= 12)] = (
        Label.LEFT_GROUND_GLASS
    )
    lesion_map = LesionMap(labels=labels, geometry=volume.geometry)
    presence = Presence(score=0.9, operating_point=0.5)
    (lesion,) = measure(volume, lesion_map, presence, Method()).lesions
    shown = upright(volume, lesion_map)
    zoom = zoom_on(lesion, shown)
    inside = is_lesion(shown.labels[zoom.index, zoom.rows, zoom.columns])
    assert inside.sum() == is_lesion(shown.labels[zoom.index]).sum() > 0
    rows, columns = np.nonzero(inside)
    assert abs(rows.mean() - (inside.shape[0] - 1) / 2) < 1.1
    assert abs(columns.mean() - (inside.shape[1] - 1) / 2) < 1.1
    assert inside.shape[0] < shown.labels.shape[1] / 2, "a zoom shows a part"
