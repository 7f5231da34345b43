"""Decodes stored pixels and converts them to Hounsfield units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from chestct.errors import RejectReason, SeriesRejected
from inference.loading.codestreams import CodestreamInvalid, check
from inference.loading.decoder_process import FrameDecoder, FrameUndecodable
from inference.loading.decoding import FrameDescription
from inference.loading.elements import UNPARSABLE, integer
from inference.loading.encapsulated import OffsetsInvalid, encoded_frames
from inference.loading.frames import PER_FRAME
from inference.loading.headers import SliceHeader

AIR_HU = -1024
"""The value of padding and of everything below; CT scales start here."""
_HIGHEST_HU = 32767

_UNDECODABLE = (*UNPARSABLE, RuntimeError, EOFError)
"""The errors that pydicom raises on damaged or mislabelled pixel data."""


class StoredFrames:
    """The frames of one instance, each decoded when it is asked for, from any thread.

    An Enhanced CT can have thousands of frames, of which a volume needs some.
    """

    def __init__(self, dataset: Dataset, decoder: FrameDecoder) -> None:
        """Find the frames; ``decoder`` decodes compressed frames.

        Raises:
            SeriesRejected: The pixels are not 8-bit or 16-bit grey values, or their frames cannot
                be told apart.
        """
        self._syntax = UID(dataset.file_meta.TransferSyntaxUID)
        self._layout = _layout(dataset)
        with self._rejections():
            self._planes = (
                _compressed(dataset, self._syntax, self._layout, decoder)
                if self._syntax.is_encapsulated
                else _native(dataset, self._syntax, self._layout)
            )

    def values(self, frame: int) -> NDArray[np.integer[Any]]:
        """Return the stored values (row, column) of a frame, counted from 0.

        Raises:
            SeriesRejected: The frame cannot be decoded.
        """
        with self._rejections():
            content = self._planes[frame]()
            return _used_bits(content, self._layout.bits_stored).reshape(self._layout.shape[1:])

    @contextmanager
    def _rejections(self) -> Iterator[None]:
        name = self._syntax.name
        try:
            yield
        except FrameUndecodable as error:
            raise SeriesRejected(
                RejectReason.BAD_PIXELS, f"a frame in {name} cannot be decoded: {error}"
            ) from error
        except (CodestreamInvalid, OffsetsInvalid) as error:
            raise SeriesRejected(
                RejectReason.BAD_PIXELS, f"the pixels cannot be decoded ({name}): {error}"
            ) from error
        except _UNDECODABLE as error:
            raise SeriesRejected(
                RejectReason.BAD_PIXELS, f"the pixels cannot be decoded ({name})"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The layout of the stored pixels; ``shape`` is (frame, row, column)."""

    shape: tuple[int, int, int]
    bits_allocated: int
    bits_stored: int
    signed: bool


def _shown(number: int | None) -> str:
    return "missing" if number is None else str(number)


def _layout(dataset: Dataset) -> _Layout:
    """Read the Image Pixel module (PS3.3 C.7.6.3)."""
    allocated = integer(dataset, "BitsAllocated")
    stored = integer(dataset, "BitsStored")
    signed = integer(dataset, "PixelRepresentation")
    if integer(dataset, "SamplesPerPixel") != 1 or allocated not in {8, 16}:
        samples = integer(dataset, "SamplesPerPixel")
        raise SeriesRejected(
            RejectReason.BAD_PIXELS,
            "the pixels are not 8-bit or 16-bit grey values: Samples per Pixel is "
            f"{_shown(samples)}, Bits Allocated is {_shown(allocated)}",
        )
    if stored is None or not 1 <= stored <= allocated or signed not in {0, 1}:
        raise SeriesRejected(
            RejectReason.BAD_PIXELS,
            f"Bits Stored is {_shown(stored)} and Pixel Representation is {_shown(signed)}: with "
            f"{allocated} Bits Allocated they must be 1 to {allocated}, and 0 or 1",
        )
    enhanced = PER_FRAME in dataset
    stated = integer(dataset, "NumberOfFrames")
    # A CT Image has a single frame and need not say so.
    frames = 1 if stated is None else stated
    if frames < 1 or (frames > 1 and not enhanced):
        raise SeriesRejected(
            RejectReason.BAD_PIXELS,
            f"Number of Frames is {frames}, but no functional groups describe the frames",
        )
    return _Layout(
        shape=(frames, int(dataset.Rows), int(dataset.Columns)),
        bits_allocated=allocated,
        bits_stored=stored,
        signed=signed == 1,
    )


Plane = Callable[[], NDArray[np.integer[Any]]]
"""Decodes one frame."""


def _native(dataset: Dataset, syntax: UID, layout: _Layout) -> list[Plane]:
    order = "<" if syntax.is_little_endian else ">"
    kind = f"{order}{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
    frames, rows, columns = layout.shape
    content = np.frombuffer(dataset.PixelData, dtype=kind, count=frames * rows * columns)
    return [partial(content.__getitem__, plane) for plane in _slices(frames, rows * columns)]


def _slices(count: int, length: int) -> list[slice]:
    return [slice(number * length, (number + 1) * length) for number in range(count)]


def _compressed(
    dataset: Dataset, syntax: UID, layout: _Layout, decoder: FrameDecoder
) -> list[Plane]:
    """Check the size in each codestream before a decoder allocates memory for it."""
    frames, rows, columns = layout.shape
    encoded = encoded_frames(dataset, frames)
    for frame in encoded:
        check(frame, syntax, rows, columns)
    described = FrameDescription(
        transfer_syntax_uid=syntax,
        rows=rows,
        columns=columns,
        bits_allocated=layout.bits_allocated,
        bits_stored=layout.bits_stored,
        signed=layout.signed,
        photometric_interpretation=str(dataset.PhotometricInterpretation),
    )
    return [partial(decoder.decode, frame, described) for frame in encoded]


def _used_bits(content: NDArray[np.integer[Any]], stored: int) -> NDArray[np.integer[Any]]:
    """Drop the bits above High Bit, which old writers use, and extend the sign (PS3.5 8.1.1)."""
    unused = content.dtype.itemsize * 8 - stored
    if unused <= 0:
        return content
    shifted: NDArray[np.integer[Any]] = np.right_shift(np.left_shift(content, unused), unused)
    return shifted


def to_hu(stored: NDArray[np.integer[Any]], header: SliceHeader, out: NDArray[np.int16]) -> None:
    """Write one slice in HU into ``out`` (row, column), padding as air."""
    if not _shift_to_hu(stored, header, out):
        values = stored.astype(np.float32) * np.float32(header.slope)
        values += np.float32(header.intercept)
        np.clip(np.rint(values, out=values), AIR_HU, _HIGHEST_HU, out=values)
        out[...] = values
    low, high = header.padding or (0, 0)
    is_air_anyway = high * header.slope + header.intercept <= AIR_HU
    if header.padding is not None and not is_air_anyway:
        np.copyto(out, AIR_HU, where=(stored >= low) & (stored <= high))


def _shift_to_hu(
    stored: NDArray[np.integer[Any]], header: SliceHeader, out: NDArray[np.int16]
) -> bool:
    """Write the slice if HU are stored values plus a 16-bit integer; return whether they are.

    The result is that of the floating-point formula, in a part of its time.
    """
    shift, limits, hu = int(header.intercept), np.iinfo(stored.dtype), np.iinfo(np.int16)
    if header.slope != 1 or header.intercept != shift or not hu.min <= shift <= hu.max:
        return False
    lowest, highest = max(AIR_HU - shift, limits.min), min(_HIGHEST_HU - shift, limits.max)
    if lowest > highest:
        return False  # every value is air
    # The sums fit 16 bits, so that wrapping around before the sum changes nothing.
    clipped = np.clip(stored, lowest, highest).astype(np.int16, copy=False)
    np.add(clipped, np.int16(shift), out=out)
    return True
