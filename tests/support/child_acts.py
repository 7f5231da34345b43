"""What the tests have an analysis process do.

The process imports this module, so it imports little: it is started many times.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from chestct.errors import RejectReason
from chestct.errors import SeriesRejected as Rejected

MEGABYTE = 1 << 20


def pid() -> int:
    """Return the process ID."""
    return os.getpid()


def die(number: int) -> None:
    """End this process with a signal."""
    os.kill(os.getpid(), number)


def hang() -> None:
    """Never return."""
    while True:
        time.sleep(60)


def take(megabytes: int) -> int:
    """Take memory; return how much."""
    return len(bytearray(megabytes * MEGABYTE))


def reject() -> None:
    """Reject the series."""
    raise Rejected(RejectReason.NO_LUNGS, "no chest")


class NeedsMore(Exception):
    """Does not come out of its own pickle, as many errors of libraries."""

    def __init__(self, value: str, *, codec: str) -> None:
        super().__init__(f"{codec}: {value}")


class HoldsALock(Exception):
    """Cannot be pickled at all."""

    def __init__(self) -> None:
        super().__init__("a lock")
        self.lock = threading.Lock()


def raise_what_needs_more() -> None:
    """Raise an error that does not come out of its pickle."""
    raise NeedsMore("PATIENT", codec="idna")


def raise_what_holds_a_lock() -> None:
    """Raise an error that cannot be pickled."""
    raise HoldsALock


def answer_a_lock() -> object:
    """Return what cannot be pickled."""
    return threading.Lock()


def quote_a_surrogate() -> None:
    """Raise an error that quotes what no encoding can hold."""
    raise UnicodeEncodeError("utf-8", "\ud800PATIENT", 0, 1, "surrogates not allowed")


def mark_and_hang(path: Path) -> None:
    """Write the process ID to a file and never return."""
    path.write_text(str(os.getpid()))
    hang()
