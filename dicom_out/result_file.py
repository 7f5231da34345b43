"""Reads a result file and checks that it is unchanged since it was written."""

from __future__ import annotations

from hashlib import sha256

from chestct.errors import ResultDamaged
from chestct.results import ResultObject
from dicom_out.encodings import NotEncoded, check_whole


def read_whole(item: ResultObject) -> bytes:
    """Return the content of the file of a result object.

    Raises:
        ResultDamaged: The file is missing, or its content changed.
        OSError: The file cannot be read now.
    """
    name, remedy = item.path.name, "run `rales retry` on its series to write it again"
    try:
        content = item.path.read_bytes()
    except FileNotFoundError as error:
        raise ResultDamaged(f"the result file {name} is missing; {remedy}") from error
    if fault := _fault(item, content):
        raise ResultDamaged(f"the result file {name} is damaged ({fault}); {remedy}")
    return content


def _fault(item: ResultObject, content: bytes) -> str:
    """Return how a file differs from the written file; empty when it does not."""
    if item.digest:
        if len(content) != item.size:
            return f"{len(content)} of {item.size} bytes"
        return "" if sha256(content).hexdigest() == item.digest else "other content"
    try:
        check_whole(content)
    except NotEncoded as error:
        return str(error)
    return ""
