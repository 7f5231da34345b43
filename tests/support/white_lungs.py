"""A series with one lung that is not assessable, for the tests of what is written about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from chest_cases import Case, both_lungs, make_case
from numpy.typing import NDArray

from chestct.findings import NotAssessable, Side
from chestct.volume import Label
from inference.reading.quantify import measure
from inference.reading.sides import Missing


def case_without(
    side: Side,
    folder: Path,
    labels: NDArray[np.uint8] | None = None,
    **settings: object,
) -> Case:
    """Return a series whose lung of that side is not assessable."""
    labels = both_lungs() if labels is None else labels
    own = (1, 3) if side is Side.LEFT else (2, 4)
    labels[np.isin(labels, own)] = Label.BACKGROUND
    case = make_case(folder / "series", labels=labels, **settings)  # type: ignore[arg-type]
    lung = NotAssessable(aerated_ml=12.4, needed_ml=345.6)
    findings = measure(
        case.volume,
        case.lesion_map,
        case.findings.presence,
        case.findings.method,
        missing=Missing(side=side, lung=lung, other_ml=1382.4),
    )
    return replace(case, findings=findings)
