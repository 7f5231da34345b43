"""Whoever gets results: an Application Entity or a DICOMweb service."""

from __future__ import annotations

from collections.abc import Sequence

from chestct.results import ResultObject
from dicom_out import stow
from dicom_out.sender import Destination, Outcome, echo, send
from dicom_out.stow import WebDestination

Recipient = Destination | WebDestination


def send_to(
    objects: Sequence[ResultObject],
    recipient: Recipient,
    *,
    calling_ae: str,
    timeout_seconds: float,
) -> Sequence[Outcome]:
    """Send ``objects`` the way that the recipient takes them; one outcome each, in order.

    Never raises for what the recipient or the network does.
    """
    if isinstance(recipient, WebDestination):
        return stow.store(objects, recipient, timeout_seconds=timeout_seconds)
    return send(objects, recipient, calling_ae=calling_ae, timeout_seconds=timeout_seconds)


def ask(recipient: Recipient, *, calling_ae: str, timeout_seconds: float = 10.0) -> Outcome:
    """Ask whether the recipient answers: by C-ECHO, or by QIDO-RS."""
    if isinstance(recipient, WebDestination):
        return stow.ask(recipient, timeout_seconds=timeout_seconds)
    return echo(recipient, calling_ae=calling_ae, timeout_seconds=timeout_seconds)
