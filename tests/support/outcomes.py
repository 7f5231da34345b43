"""Findings of each outcome, and of each reason for an indeterminate outcome."""

from __future__ import annotations

from dataclasses import replace

from notify_rig import HEALTHY, ILL

from chestct.findings import End, Findings, NotAssessable, Outcome, Side

MISSING_LUNG = NotAssessable(aerated_ml=12.4, needed_ml=345.6)
UNOUTLINED = replace(HEALTHY, presence=replace(HEALTHY.presence, score=0.7))
ONE_LUNG = replace(HEALTHY, left=MISSING_LUNG, total=None, extent=None)
CUT = replace(HEALTHY, cut=(End.HEAD,))
HIGH_BASE = replace(HEALTHY, higher_base=Side.LEFT)
EXAMPLES: tuple[tuple[Findings, Outcome], ...] = (
    (ILL, Outcome.FOUND),
    (HEALTHY, Outcome.NONE_MARKED),
    (UNOUTLINED, Outcome.INDETERMINATE),
    (ONE_LUNG, Outcome.INDETERMINATE),
    (CUT, Outcome.INDETERMINATE),
    (HIGH_BASE, Outcome.INDETERMINATE),
)
NAMES = ("found", "none marked", "nothing outlined", "one lung", "cut lungs", "high base")
