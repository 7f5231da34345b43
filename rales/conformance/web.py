"""Tables of what DICOM web services answer."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_out.network.stow import outcome_of_refusal
from rales.conformance.markdown import ranges, table
from rales.conformance.network import TOLD

_ERRORS = range(400, 600)
"""HTTP statuses that are errors (RFC 9110 sections 15.5, 15.6)."""


def stow_statuses() -> str:
    """Return what the node does with each HTTP status of an error that says nothing in DICOM."""
    return table(("HTTP status", "What Rales does"), ranges(_ERRORS, _told, str))


def _told(status: int) -> str:
    outcome = outcome_of_refusal(Dataset(), "", status)
    beyond = "" if outcome.reached else "; nothing else is sent there until then"
    return f"{TOLD[outcome.kind]}{beyond}"
