"""What became of a request: one kind of outcome, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chestct.text import printable

_LONGEST = 500
"""Characters of a message; it may quote the other side."""


class OutcomeKind(StrEnum):
    """What became of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """For good: the same object will not be taken."""
    FAILED = "failed"
    """For now: the same request may succeed later."""
    NOT_ACCEPTED = "not accepted"
    """A state of the destination, whatever the object: its settings may change."""
    DAMAGED = "damaged"
    """Nothing was sent: our own file is gone, or not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one object; ``status`` is the DIMSE status, if one came.

    Attributes:
        message: Printable, whatever it quotes of the other side.
        reached: Whether there was an association; where not, no other object fares better.
        present: It says that it has an object of this UID: to one that was sent before and
            whose answer was lost, a delivery.
    """

    kind: OutcomeKind
    status: int | None
    message: str
    reached: bool = True
    present: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message, _LONGEST))


_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_OLD_NOT_SUPPORTED = range(0xA800, 0xA900)
"""What 0x0122 was in DICOM of 1993."""
_DUPLICATE = 0x0111
_PASSING = frozenset({0x0110, 0x0210, 0x0212, 0x0213, 0xFE00})
"""Processing failure, duplicate invocation, mistyped argument, resource limitation, cancelled."""
_OF_THE_DESTINATION = frozenset({0x0122, 0x0124, 0x0211})
"""SOP class not supported, not authorised, unrecognised operation (PS3.7 annex C)."""


def outcome_of(status: int) -> Outcome:
    """Classify the status of a C-STORE response (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings (0x0001, 0xBxxx) mean that it is stored. What says nothing of the
    object may pass: out of resources (0xA7xx, 0x0213), a failure in processing (0x0110), and
    what the destination does not take or allow at present. Everything else is a verdict on
    the object, and final.
    """
    said = f"status 0x{status:04X}"
    if status == 0x0000 or status == 0x0001 or 0xB000 <= status <= 0xBFFF:  # noqa: PLR1714, PLR2004 - PS3.7 annex C
        return Outcome(kind=OutcomeKind.DELIVERED, status=status, message=f"stored, {said}")
    if status in _OUT_OF_RESOURCES or status in _PASSING:
        return Outcome(kind=OutcomeKind.FAILED, status=status, message=f"not stored, {said}")
    if status in _OF_THE_DESTINATION or status in _OLD_NOT_SUPPORTED:
        message = f"not accepted there at present, {said}"
        return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=status, message=message)
    if status == _DUPLICATE:
        message = f"it has an object of this UID already, {said}"
        return Outcome(kind=OutcomeKind.REFUSED, status=status, message=message, present=True)
    return Outcome(kind=OutcomeKind.REFUSED, status=status, message=f"refused, {said}")


def failed(message: str, *, reached: bool = True) -> Outcome:
    """Return a failure for now, without a status."""
    return Outcome(kind=OutcomeKind.FAILED, status=None, message=message, reached=reached)
