"""Logging: one line an event, to standard error, no patient data, nothing that does not print."""

from __future__ import annotations

import logging
import os
import time
import warnings
from typing import Any

from chestct.text import printable

_LONGEST = 4000
"""Characters of a line; whoever logs may quote what came from outside."""

_MOST_LINES = 200
"""Of a traceback; the text of an exception may have any number."""


class OneLineFormatter(logging.Formatter):
    """Writes every record as one printable line; lines of a traceback are indented below it.

    So nothing that was quoted reaches the terminal as a control sequence, or looks like a line
    that this node wrote.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its base
        """Return the line of a record."""
        return printable(super().formatMessage(record), _LONGEST)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - its base
        """Return a traceback, indented."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - its base
        """Return a stack, indented."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:  # where it began and what was raised
        half = _MOST_LINES // 2
        lines[half:-half] = [f"... {len(lines) - 2 * half} lines are left out ..."]
    return "\n".join(f"    {printable(line, _LONGEST)}" for line in lines)


def configure(level: str) -> None:
    """Send log lines of ``level`` and above to standard error, with UTC times.

    Warnings of libraries quote values of data sets, so they are shown at DEBUG only, in
    this process and in those that it starts.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # pynetdicom's own lines repeat ours, and at INFO they may name patients.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    if level != "DEBUG":
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
