"""Logging to standard error: one printable line per event, without patient data."""

from __future__ import annotations

import logging
import os
import time
import warnings
from typing import Any

from chestct.text import printable

_LONGEST = 4000
"""The most characters of a line: messages may quote data from outside."""
_MOST_LINES = 200
"""The most lines of a traceback: the text of an exception may have any number of lines."""


class OneLineFormatter(logging.Formatter):
    """Formats each record as one printable line, with a traceback indented below it.

    Quoted data therefore cannot send control sequences to the terminal, and cannot look like
    another log line.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - name of the base
        """Return the line of a record."""
        return printable(super().formatMessage(record), _LONGEST)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - name of the base
        """Return an indented traceback."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - name of the base
        """Return an indented stack."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:  # keep the start of the stack and the exception
        half = _MOST_LINES // 2
        lines[half:-half] = [f"... {len(lines) - 2 * half} lines omitted ..."]
    return "\n".join(f"    {printable(line, _LONGEST)}" for line in lines)


def configure(level: str) -> None:
    """Send log messages of ``level`` and above to standard error, with UTC times.

    Warnings from libraries quote values of data sets. They are shown at DEBUG only, in this
    process and in its child processes.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # pynetdicom's messages repeat ours, and at INFO they may name patients.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    if level != "DEBUG":
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
