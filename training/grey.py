"""Converts HU to the 8-bit images that the networks learn from, as live CT is converted."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.loading.pixels import AIR_HU
from inference.networks.manifest import InputContract
from inference.networks.preprocess import equalised, windowed
from inference.reading.frame import PIXEL_MM

Scalar = TypeVar("Scalar", bound=np.generic)

CANVAS = 256
"""Rows and columns of a training image: 345 mm in the pixels of the frame."""

LIVE_INPUT = InputContract(
    rows=CANVAS,
    columns=CANVAS,
    context=3,
    context_mm=4.0,
    window=(-1024.0, 400.0),
    crop="body",
    spacing=(PIXEL_MM, PIXEL_MM),
)
"""The input of the networks on live CT."""
_HIGHEST_HU = 3071

SLICE_INPUT = InputContract(
    rows=CANVAS,
    columns=CANVAS,
    context=3,
    context_mm=4.0,
    window=(-1024.0, 600.0),
    clahe_clip=7.0,
    clahe_tiles=8,
)
"""The processing of the 8-bit slices of patients (Ma et al. 2020 as redistributed)."""


def as_stored(hu: NDArray[Any]) -> NDArray[np.int16]:
    """Return HU of any shape as a scanner stores them: whole, from air to 12 bits."""
    stored: NDArray[np.int16] = np.clip(np.round(hu), AIR_HU, _HIGHEST_HU).astype(np.int16)
    return stored


def to_slice(hu: NDArray[np.int16], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a plane (row, column) of HU processed as the 8-bit slices of patients are.

    Window to 0..255, resize with area averaging, then contrast-limited adaptive histogram
    equalisation (clip limit 7, 8 by 8 tiles).
    """
    contract = SLICE_INPUT.model_copy(update={"window": window})
    small = cv2.resize(windowed(hu, contract), (CANVAS, CANVAS), interpolation=cv2.INTER_AREA)
    return equalised(np.asarray(small, dtype=np.float32), contract)


def to_grey(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Return HU of the frame, float or int of any shape, as the network's 8-bit image."""
    grey: NDArray[np.uint8] = np.round(windowed(hu, LIVE_INPUT)).astype(np.uint8)
    return grey


def on_canvas(planes: NDArray[Scalar], shift: NDArray[np.int64]) -> NDArray[Scalar]:
    """Return planes (n, row, column) centred on the canvas, moved by ``shift``, zero around."""
    canvas = np.zeros((len(planes), CANVAS, CANVAS), dtype=planes.dtype)
    target, source = [slice(None)], [slice(None)]
    for length, move in zip(planes.shape[1:], shift, strict=True):
        start = (CANVAS - length) // 2 + int(move)
        first, last = max(0, start), min(CANVAS, start + length)
        target.append(slice(first, last))
        source.append(slice(first - start, last - start))
    canvas[tuple(target)] = planes[tuple(source)]
    return canvas
