"""Sends result objects and returns all outcomes at once."""

from __future__ import annotations

from collections.abc import Sequence

from chestct.results import ResultObject
from dicom_out.network.allowance import SLOWEST
from dicom_out.network.destination import Destination, WebDestination
from dicom_out.network.outcome import Outcome
from dicom_out.network.sender import send_each
from dicom_out.network.stow import store_each


def send(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    calling_ae: str,
    timeout_seconds: float,
    slowest: float = SLOWEST,
) -> tuple[Outcome, ...]:
    """Send ``objects`` by C-STORE in one association; return one outcome each, in order."""
    return tuple(
        send_each(
            objects,
            destination,
            calling_ae=calling_ae,
            timeout_seconds=timeout_seconds,
            slowest=slowest,
        )
    )


def store(
    objects: Sequence[ResultObject], destination: WebDestination, *, timeout_seconds: float
) -> tuple[Outcome, ...]:
    """Send ``objects`` by STOW-RS, a request each; return one outcome each, in order."""
    return tuple(store_each(objects, destination, timeout_seconds=timeout_seconds))
