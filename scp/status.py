"""Maps errors to DIMSE statuses (PS3.4 table B.2-1, PS3.7 annex C)."""

from __future__ import annotations

from enum import IntEnum

from pydicom.dataset import Dataset

from chestct import errors

_COMMENT_LENGTH = 64
"""Error Comment (0000,0902) is an LO."""


class StoreStatus(IntEnum):
    """Statuses that this node answers to a C-STORE."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    PROCESSING_FAILURE = 0x0110


_TABLE: dict[type[errors.RalesError], StoreStatus] = {
    errors.NotDicom: StoreStatus.CANNOT_UNDERSTAND,
    errors.SopClassMismatch: StoreStatus.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    errors.SopClassNotSupported: StoreStatus.SOP_CLASS_NOT_SUPPORTED,
    errors.InstanceRefused: StoreStatus.CANNOT_UNDERSTAND,
    errors.OutOfResources: StoreStatus.OUT_OF_RESOURCES,
}


def kinds_by_status() -> dict[StoreStatus, tuple[type[errors.RalesError], ...]]:
    """Return every status with the errors that lead to it, in the order of the table."""
    return {
        status: tuple(kind for kind, mapped in _TABLE.items() if mapped is status)
        for status in StoreStatus
    }


def status_of(error: BaseException) -> StoreStatus:
    """Return the status for an error; an unexpected error is a processing failure."""
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _TABLE[kind]
    return StoreStatus.PROCESSING_FAILURE


def answer(error: BaseException) -> Dataset:
    """Return the status data set for an error, with the reason as Error Comment."""
    status = status_of(error)
    reason = "internal error" if status is StoreStatus.PROCESSING_FAILURE else str(error)
    dataset = Dataset()
    dataset.Status = int(status)
    dataset.ErrorComment = _comment(reason)
    return dataset


def _comment(reason: str) -> str:
    """Return ``reason`` as an LO: printable ASCII without a backslash (PS3.5 section 6.2)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c != "\\" else "?" for c in reason)
    return plain[:_COMMENT_LENGTH].strip()
