"""Decides which peers may associate: by calling AE title, by address and by number."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event

_LOG = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNKNOWN_CALLER = (0x01, 0x01, 0x03)
"""A-ASSOCIATE-RJ: permanent, by the service user, calling AE title not recognized."""
_LOCAL_LIMIT = (0x02, 0x03, 0x02)
"""A-ASSOCIATE-RJ: transient, by the provider, local limit exceeded (PS3.8 table 9-21)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The rules for association requests.

    Attributes:
        callers: Calling AE titles that may send, each with the networks that it may call from
            (none: any). Empty: every title may send.
        maximum_per_address: Associations that one address may have at the same time, so that a
            faulty peer leaves room for the others.
    """

    callers: Mapping[str, Sequence[Network]] = field(default_factory=dict)
    maximum_per_address: int = 96

    def permits(self, calling_ae: str, address: str) -> bool:
        """Return whether a calling AE title may send from an address."""
        if not self.callers:
            return True
        if calling_ae not in self.callers:
            return False
        networks = self.callers[calling_ae]
        return not networks or any(_parse(address) in network for network in networks)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; an IPv4 address that an IPv6 socket gives is an IPv4 address."""
    # A network holds addresses without a scope ("fe80::1%eth0").
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def on_requested(event: Event, admission: Admission) -> None:
    """Reject a peer that may not associate (EVT_REQUESTED); pynetdicom negotiates with others."""
    association = event.assoc
    requested: Any = association.requestor.primitive
    calling, address = str(requested.calling_ae_title).strip(), str(association.requestor.address)
    if not admission.permits(calling, address):
        _reject(association, _UNKNOWN_CALLER)
    elif _associations_of(address, association) > admission.maximum_per_address:
        _LOG.warning(
            "%s rejected: it has %d associations, the maximum of "
            "network.maximum_associations_per_address",
            address,
            admission.maximum_per_address,
        )
        _reject(association, _LOCAL_LIMIT)


def _associations_of(address: str, association: Association) -> int:
    """Count the associations of an address, including ``association``."""
    return sum(
        active.is_acceptor and str(active.requestor.address) == address
        for active in association.ae.active_associations
    )


def _reject(association: Association, answer: tuple[int, int, int]) -> None:
    association.acse.send_reject(*answer)
    evt.trigger(association, evt.EVT_REJECTED, {})
    association.kill()
