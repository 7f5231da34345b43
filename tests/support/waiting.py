"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

DEADLINE = 240.0
"""Longer than anything here takes on a busy machine."""
_PAUSE = 0.02


def wait_for(what: str, condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Return the first true answer of ``condition``.

    Raises:
        AssertionError: None of its answers was true for ``seconds``.
    """
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(_PAUSE)
    return answer
