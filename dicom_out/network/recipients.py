"""Sends results to a destination of either kind: Application Entity or DICOMweb service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chestct.results import ResultObject
from dicom_out.network import stow
from dicom_out.network.allowance import SLOWEST, Conversations
from dicom_out.network.destination import Destination, WebDestination
from dicom_out.network.outcome import Outcome
from dicom_out.network.sender import echo, send_each

Recipient = Destination | WebDestination


def send_to(
    objects: Sequence[ResultObject],
    recipient: Recipient,
    *,
    calling_ae: str,
    timeout_seconds: float,
    slowest: float = SLOWEST,
    under_way: Conversations | None = None,
) -> Iterator[Outcome]:
    """Send ``objects`` by C-STORE or STOW-RS; yield one outcome each, in order, once it is known.

    Never raises for what the destination or the network does.
    """
    if isinstance(recipient, WebDestination):
        return stow.store_each(
            objects,
            recipient,
            timeout_seconds=timeout_seconds,
            slowest=slowest,
            under_way=under_way,
        )
    return send_each(
        objects,
        recipient,
        calling_ae=calling_ae,
        timeout_seconds=timeout_seconds,
        slowest=slowest,
        under_way=under_way,
    )


def ask(recipient: Recipient, *, calling_ae: str, timeout_seconds: float = 10.0) -> Outcome:
    """Ask whether the destination answers, by C-ECHO or QIDO-RS."""
    if isinstance(recipient, WebDestination):
        return stow.ask(recipient, timeout_seconds=timeout_seconds)
    return echo(recipient, calling_ae=calling_ae, timeout_seconds=timeout_seconds)
