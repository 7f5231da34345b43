"""The names of slices in captions and texts."""

from __future__ import annotations

import pytest

from chestct.uids import Uid
from chestct.volume import SliceSource, slice_names


def source(uid: str, number: int | None, frame: int | None = None) -> SliceSource:
    return SliceSource(
        sop_class_uid=Uid("1.2"),
        sop_instance_uid=Uid(uid),
        instance_number=number,
        frame_number=frame,
    )


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([source("1.1", 57), source("1.2", 56)], ("image 57", "image 56")),
        ([source("1.1", 1, 2), source("1.1", 1, 1)], ("frame 2", "frame 1")),
        ([source("1.1", 1, 2), source("1.2", 2, 1)], ("image 1, frame 2", "image 2, frame 1")),
        ([source("1.1", None), source("1.2", 4)], ()),
        ([source("1.1", 4), source("1.2", 4)], ()),
    ],
)
def test_a_slice_is_named_as_a_viewer_names_it(
    sources: list[SliceSource], names: tuple[str, ...]
) -> None:
    counted = ("slice 1 of 2 from the feet", "slice 2 of 2 from the feet")
    assert slice_names(sources) == (names or counted)
