"""Is what came now the image that is recorded, in another transfer syntax?"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chestct.errors import NotDicom
from chestct.series import ReceivedInstance
from scp.stored import read_back


def says_the_same(row: sqlite3.Row, file: Path, instance: ReceivedInstance) -> bool:
    """Tell whether the recorded image has the values of ``instance``.

    ``row`` of an older version does not have their digest: ``file`` has them. It is not
    written down for the row, whose series keeps the digest that its results were named by.
    """
    if not instance.value_digest:
        return False
    if row["value_digest"]:
        return bool(row["value_digest"] == instance.value_digest)
    try:
        recorded = read_back(file, calling_ae="")
    except (NotDicom, OSError):
        return False
    return recorded.value_digest == instance.value_digest


def is_lost(row: sqlite3.Row, file: Path) -> bool:
    """Tell whether an analysis could not read the image any more."""
    return bool(row["released_at"] or row["faulty"]) or not file.exists()
