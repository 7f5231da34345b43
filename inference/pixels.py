"""Stored pixels to Hounsfield units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from chestct.errors import RejectReason, SeriesRejected
from inference.headers import SliceHeader

AIR_HU = -1024
"""What padding and everything below becomes; CT scales start here."""
_HIGHEST_HU = 32767

_PLUGINS = {
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    RLELossless: "pylibjpeg",
}
"""The fastest decoder for each transfer syntax, as measured; pylibjpeg for JPEG 2000."""


def stored_pixels(dataset: Dataset) -> NDArray[np.integer[Any]]:
    """Return the stored values (frame, row, column) of a data set.

    Raises:
        SeriesRejected: They cannot be decoded, or are no 8 or 16-bit grey image.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if dataset.get("SamplesPerPixel") != 1 or dataset.get("BitsAllocated") not in {8, 16}:
        raise SeriesRejected(RejectReason.BAD_PIXELS, "the pixels are no 8 or 16-bit grey values")
    frames = int(dataset.get("NumberOfFrames") or 1)
    shape = (frames, int(dataset.Rows), int(dataset.Columns))
    try:
        if syntax.is_encapsulated:
            return _decode(dataset, syntax).reshape(shape)
        kind = f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
        content = np.frombuffer(dataset.PixelData, dtype=kind, count=int(np.prod(shape)))
        return _used_bits(content, dataset).reshape(shape)
    except (ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise SeriesRejected(
            RejectReason.BAD_PIXELS, f"the pixels cannot be decoded ({syntax.name})"
        ) from error


def _used_bits(content: NDArray[np.integer[Any]], dataset: Dataset) -> NDArray[np.integer[Any]]:
    """Drop what old writers keep above High Bit, and extend the sign (PS3.5 section 8.1.1)."""
    unused = int(dataset.BitsAllocated) - int(dataset.BitsStored)
    if unused <= 0:
        return content
    shifted: NDArray[np.integer[Any]] = np.right_shift(np.left_shift(content, unused), unused)
    return shifted


def _decode(dataset: Dataset, syntax: UID) -> NDArray[np.integer[Any]]:
    decoder = get_decoder(syntax)
    wanted = _PLUGINS.get(syntax, "")
    plugin = wanted if wanted in decoder.available_plugins else ""
    decoded, _ = decoder.as_array(dataset, raw=True, decoding_plugin=plugin)
    return decoded


def to_hu(stored: NDArray[np.integer[Any]], header: SliceHeader, out: NDArray[np.int16]) -> None:
    """Write one slice in HU into ``out`` (row, column), padding as air."""
    values = stored.astype(np.float32) * np.float32(header.slope) + np.float32(header.intercept)
    if header.padding is not None:
        low, high = header.padding
        values[(stored >= low) & (stored <= high)] = AIR_HU
    np.clip(np.rint(values, out=values), AIR_HU, _HIGHEST_HU, out=values)
    out[...] = values
