"""Lets every network read a frame, also a network that wants the slices of the volume itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.ports import Box, Reader, SegmentationModel
from inference.reading.frame import Frame
from inference.reading.postprocess import suppress_aerated

_CHUNK = 16


def reader_on(
    frame: Frame, volume: Volume, model: SegmentationModel, box: Box | None = None
) -> Reader:
    """Return a reader that answers on the frame of ``volume``, within ``box`` of the frame."""
    if model.reads_body:
        return model.reader(frame.volume, box)
    within = None if box is None else frame.box_in_source(box)
    return _SourceReader(frame=frame, reader=model.reader(volume, within))


def lesion_probabilities(
    reader: Reader,
    frame: Frame,
    model: SegmentationModel,
    slabs: Sequence[int],
    least_hu: float | None,
    *,
    least: float = 0.0,
) -> Iterator[tuple[Sequence[int], list[NDArray[np.float32]]]]:
    """Yield chunks of slabs and their probabilities (row, column), 0 in aerated lung.

    A chunk is read at a time, since probabilities are large. ``least_hu`` is that of
    :func:`inference.reading.postprocess.suppress_aerated`, ``least`` that of
    :meth:`inference.ports.Reader.probabilities`.
    """
    channel = model.classes.index("lesion")
    for start in range(0, len(slabs), _CHUNK):
        chunk = slabs[start : start + _CHUNK]
        planes = zip(chunk, reader.probabilities(chunk, least)[:, channel], strict=True)
        yield chunk, [suppress_aerated(raw, frame.volume, at, least_hu) for at, raw in planes]


def probabilities_on_slices(
    volume: Volume, model: SegmentationModel, slices: Sequence[int]
) -> NDArray[np.float32]:
    """Return the probabilities of a network alone, float32 (len(slices), class, row, column)."""
    if not model.reads_body:
        return model.reader(volume).probabilities(slices)
    frame = Frame.of(volume)
    slabs = [frame.slab_of(index) for index in slices]
    found = model.reader(frame.volume).probabilities(slabs)
    return np.stack([np.stack([frame.leave(plane) for plane in one]) for one in found])


@dataclass(frozen=True, slots=True, kw_only=True)
class _SourceReader:
    """Reads the middle slice of each slab from the volume, and moves the answer to the frame."""

    frame: Frame
    reader: Reader

    def probabilities(self, slices: Sequence[int], least: float = 0.0) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns) for slabs of the frame."""
        middles = self.frame.middle_slices
        found = self.reader.probabilities([middles[index] for index in slices], least)
        return np.stack([np.stack([self.frame.enter(plane) for plane in one]) for one in found])

    def unfinished(self, slices: Sequence[int]) -> list[int]:
        """Return the slabs whose probabilities may be too low."""
        middles = self.frame.middle_slices
        return [index for index in slices if self.reader.unfinished([middles[index]])]
