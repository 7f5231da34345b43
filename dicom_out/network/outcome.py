"""The outcome of a request, the same for every protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chestct.text import printable

_MESSAGE_LENGTH = 500
"""Characters of a message; it may quote the peer."""


class OutcomeKind(StrEnum):
    """The kind of an outcome."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """Permanent: the destination will never take this object."""
    FAILED = "failed"
    """Temporary: the same request may succeed later."""
    NOT_ACCEPTED = "not accepted"
    """The destination accepts no such object at present: its configuration may change."""
    DAMAGED = "damaged"
    """Nothing was sent: the result file is missing or damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a request for one object.

    Attributes:
        status: The DIMSE status; None without an answer.
        message: One printable sentence; it may quote the peer.
        reached: Whether the association or connection was established; if not, no other object
            can be sent either.
        present: The destination says that it has an object with this UID. For an object that was
            sent before, and whose answer was lost, that is a delivery.
    """

    kind: OutcomeKind
    status: int | None
    message: str
    reached: bool = True
    present: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message, _MESSAGE_LENGTH))


_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_OLD_NOT_SUPPORTED = range(0xA800, 0xA900)
"""SOP class not supported, in DICOM of 1993."""
_DUPLICATE = 0x0111
_TEMPORARY = frozenset({0x0110, 0x0210, 0x0212, 0x0213, 0xFE00})
"""Processing failure, duplicate invocation, mistyped argument, resource limitation, cancelled."""
_OF_THE_DESTINATION = frozenset({0x0122, 0x0124, 0x0211})
"""SOP class not supported, not authorised, unrecognised operation (PS3.7 annex C)."""


def outcome_of(status: int) -> Outcome:
    """Classify the status of a C-STORE response (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings (0x0001, 0xBxxx) mean that the object is stored. A status that is not about
    the object is temporary: out of resources (0xA7xx, 0x0213), a processing failure (0x0110), or an
    object or request that the destination does not accept at present. Every other status is a final
    verdict on the object.
    """
    text = f"status 0x{status:04X}"
    if status == 0x0000 or status == 0x0001 or 0xB000 <= status <= 0xBFFF:  # noqa: PLR1714, PLR2004 - PS3.7 annex C
        return Outcome(kind=OutcomeKind.DELIVERED, status=status, message=f"stored, {text}")
    if status in _OUT_OF_RESOURCES or status in _TEMPORARY:
        return Outcome(kind=OutcomeKind.FAILED, status=status, message=f"not stored, {text}")
    if status in _OF_THE_DESTINATION or status in _OLD_NOT_SUPPORTED:
        message = f"the destination does not accept the object at present, {text}"
        return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=status, message=message)
    if status == _DUPLICATE:
        message = f"the destination has an object with this UID already, {text}"
        return Outcome(kind=OutcomeKind.REFUSED, status=status, message=message, present=True)
    return Outcome(kind=OutcomeKind.REFUSED, status=status, message=f"refused, {text}")


def failed(message: str, *, reached: bool = True) -> Outcome:
    """Return a temporary failure without a status."""
    return Outcome(kind=OutcomeKind.FAILED, status=None, message=message, reached=reached)
