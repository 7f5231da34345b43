"""What queries find the reports of Rales by: their SOP classes and their Series Description."""

from __future__ import annotations

from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

REPORT_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage)
"""The SOP classes of reports; the second is for destinations without SEG support."""
_MARK = "Rales AI"
"""In the Series Description of every result."""
_FORMER_START = "Rales report"
"""Reports of earlier versions begin with these words."""


def may_be_report(series_description: str) -> bool:
    """Return whether a Series Description may be that of a report; it may be missing."""
    return (
        not series_description
        or _MARK in series_description
        or series_description.startswith(_FORMER_START)
    )
