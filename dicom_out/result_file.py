"""The file of a written result, read only if it is still what was written."""

from __future__ import annotations

from hashlib import sha256

from chestct.errors import ResultDamaged
from chestct.results import ResultObject
from dicom_out.encodings import NotEncoded, check_whole


def read_whole(item: ResultObject) -> bytes:
    """Return the file of a result object, if it is still what was written.

    Raises:
        ResultDamaged: It is gone, or holds something else.
        OSError: It cannot be read now.
    """
    name, remedy = item.path.name, "`rales retry` of its series makes it anew"
    try:
        content = item.path.read_bytes()
    except FileNotFoundError as error:
        raise ResultDamaged(f"the result file {name} is missing; {remedy}") from error
    if fault := _fault(item, content):
        raise ResultDamaged(f"the result file {name} is damaged ({fault}); {remedy}")
    return content


def _fault(item: ResultObject, content: bytes) -> str:
    """Say how a file differs from what was written; empty: it does not."""
    if item.digest:
        if len(content) != item.size:
            return f"{len(content)} of {item.size} bytes"
        return "" if sha256(content).hexdigest() == item.digest else "other content"
    try:
        check_whole(content)
    except NotEncoded as error:
        return str(error)
    return ""
