"""The acquisition context of a series in the tests of evolution."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from chestct.evolution import AcquisitionContext
from chestct.uids import Uid

NOW = datetime.fromisoformat("2026-03-15T10:30")
_PRESENT = AcquisitionContext(
    study_uid=Uid("1.1"),
    acquired=NOW,
    patient="p",
    has_time=True,
    birth_date="",
    sex="",
    models="m",
    settings="s",
    kernel="B70f",
    slice_spacing_mm=3.0,
)


def acquisition_context(**changes: Any) -> AcquisitionContext:
    """Return the context of a series acquired at :data:`NOW`; ``changes`` replaces fields."""
    return replace(_PRESENT, **changes)
