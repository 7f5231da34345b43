"""Made-up voxels as the loader would give them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry, Vector
from chestct.uids import Uid
from chestct.volume import SliceSource, Volume


def canonical_volume(hu: NDArray[np.int16], spacing: Vector, origin: Vector) -> Volume:
    """Return made-up HU (slice, row, column) as the loader would give it, in LPS mm."""
    count, rows, columns = hu.shape
    return Volume(
        hu=hu,
        geometry=Geometry(
            shape=(count, rows, columns),
            origin=origin,
            row_cosines=(1.0, 0.0, 0.0),
            column_cosines=(0.0, 1.0, 0.0),
            pixel_spacing=(spacing[1], spacing[2]),
            slice_spacing=spacing[0],
        ),
        sources=tuple(
            SliceSource(
                sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.2"),
                sop_instance_uid=Uid(f"2.25.{number + 1}"),
            )
            for number in range(count)
        ),
        series_uid=Uid("2.25.1"),
        frame_of_reference_uid=Uid("2.25.2"),
    )
