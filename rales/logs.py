"""Logging: one line an event, to standard error, no patient data."""

from __future__ import annotations

import logging
import os
import time
import warnings


def configure(level: str) -> None:
    """Send log lines of ``level`` and above to standard error, with UTC times.

    Warnings of libraries quote values of data sets, so they are shown at DEBUG only, in
    this process and in those that it starts.
    """
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03d"
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # pynetdicom's own lines repeat ours, and at INFO they may name patients.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    if level != "DEBUG":
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
