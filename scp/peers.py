"""Names the peer of an association, for records and log lines."""

from __future__ import annotations

from pynetdicom.association import Association

from chestct.ae_title import shown_ae_title
from scp.ports import Peer


def calling_ae(association: Association) -> str:
    """Return the calling AE title, printable."""
    return shown_ae_title(association.requestor.ae_title)


def peer_of(association: Association) -> Peer:
    """Return the peer that requested an association."""
    return Peer(ae_title=calling_ae(association), address=str(association.requestor.address))


def shown_peer(association: Association) -> str:
    """Return calling AE title and address of a peer."""
    return f"{calling_ae(association)}@{association.requestor.address}"
