"""Converts HU to the 8-bit images that the networks learn from, as live CT is converted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.networks.manifest import InputContract
from inference.networks.preprocess import equalised, windowed


def to_grey(hu: NDArray[np.int16], contract: InputContract) -> NDArray[np.uint8]:
    """Return a canonical plane (row, column) as the network's 8-bit image.

    Window to 0..255, resize with area averaging, then contrast-limited adaptive histogram
    equalisation: the processing of the training data (Ma et al. 2020 as redistributed: 256 by
    256 pixels, CLAHE with clip limit 7 on 8 by 8 tiles).
    """
    size = (contract.columns, contract.rows)
    small = cv2.resize(windowed(hu, contract), size, interpolation=cv2.INTER_AREA)
    return equalised(np.asarray(small, dtype=np.float32), contract)
