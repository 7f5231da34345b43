"""A random generator whose ``random()`` a test chooses: it decides which branches are taken."""

from __future__ import annotations

import numpy as np


class FixedRolls(np.random.Generator):
    """A generator whose ``random()`` always returns the same number; the rest is seeded with 0."""

    def __init__(self, roll: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._roll = roll

    def random(self, *_args: object, **_keywords: object) -> float:  # type: ignore[override]
        return self._roll
