"""Labelled chests, small enough for tests of every step of the training."""

from __future__ import annotations

import numpy as np

from inference.loading.pixels import AIR_HU
from phantom import Thorax
from training.chests import LabelledChest
from training.data import IGNORE, LEFT, RIGHT

LUNG_HU = -850
TISSUE_HU = 40
SPACING = (8.0, 4.0, 4.0)
KNOWN_LESION = (slice(4, 6), slice(24, 30), slice(20, 26))
UNKNOWN_LESION = (slice(9, 11), slice(24, 30), slice(60, 66))
UNKNOWN_LUNG = (slice(2, 14), slice(44, 50), slice(14, 40))


def labelled_chest() -> LabelledChest:
    """Return 128 by 256 by 384 mm: a right and a left lung with a known and an unknown lesion."""
    shape = (16, 64, 96)
    body, lungs = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.uint8)
    body[:, 4:60, 4:92] = True
    lungs[2:14, 10:50, 14:44], lungs[2:14, 10:50, 52:82] = RIGHT, LEFT
    lungs[UNKNOWN_LUNG] = IGNORE
    lesion = np.zeros(shape, dtype=np.uint8)
    lesion[KNOWN_LESION], lesion[UNKNOWN_LESION] = 1, IGNORE
    hu = np.where(body, TISSUE_HU, AIR_HU).astype(np.int16)
    hu[lungs > 0] = LUNG_HU
    hu[lesion > 0] = -300
    return LabelledChest(
        name="boxes", hu=hu, body=body, lungs=lungs, lesion=lesion, spacing=SPACING
    )


def chest_of(thorax: Thorax) -> LabelledChest:
    """Return a phantom as a chest with all its labels, the whole volume being body."""
    return LabelledChest(
        name="phantom",
        hu=thorax.hu,
        body=np.ones(thorax.hu.shape, dtype=bool),
        lungs=(RIGHT * thorax.right_lung + LEFT * thorax.left_lung).astype(np.uint8),
        lesion=(thorax.lesion > 0).astype(np.uint8),
        spacing=thorax.spacing,
    )
