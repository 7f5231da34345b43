"""Reads the command set of a plain C-STORE-RQ, writes that of a C-STORE-RSP (PS3.7 section 9.3.1).

A command set is Implicit VR Little Endian. pynetdicom builds a pydicom data set for each, which
takes longer than to receive the image.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from chestct.uids import MAX_UID_LENGTH
from pynetdicom_guard.sockets import P_DATA_TF

_ELEMENT = struct.Struct("<HHL")
_NUMBER = struct.Struct("<H")
_PDV = struct.Struct(">BxLLBB")
_LAST_COMMAND = 0x03
_GROUP_LENGTH, _SOP_CLASS, _COMMAND, _MESSAGE_ID = 0x0000, 0x0002, 0x0100, 0x0110
_RESPONDS_TO, _PRIORITY, _DATA_SET_TYPE, _STATUS = 0x0120, 0x0700, 0x0800, 0x0900
_COMMENT, _SOP_INSTANCE, _MOVE_ORIGINATOR, _MOVE_MESSAGE_ID = 0x0902, 0x1000, 0x1030, 0x1031
_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_PRIORITIES = frozenset({0, 1, 2})
"""Medium, high and low; pynetdicom aborts at any other."""
_GROUP_LENGTH_BYTES = 4
_NUMBERS = frozenset({_COMMAND, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE, _MOVE_MESSAGE_ID})
_KNOWN = _NUMBERS | {_GROUP_LENGTH, _SOP_CLASS, _SOP_INSTANCE, _MOVE_ORIGINATOR}
_NEEDED = (_SOP_CLASS, _COMMAND, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE, _SOP_INSTANCE)
_UID = re.compile(rb"(?=.{1,%d}\Z)(0|[1-9]\d*)(\.(0|[1-9]\d*))*\Z" % MAX_UID_LENGTH)
_AE_TITLE = re.compile(rb"[ -\[\]-~]{1,16}\Z")
LONGEST_RESPONSE = 1 << 10
"""Bytes that no PDU of a response exceeds: two UIDs, and a comment of 64 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """What a C-STORE-RQ says about its data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    message_id: int = 0


def read_request(command_set: bytes, transfer_syntax: str) -> StoreRequest | None:
    """Return the request; None where anything about it is unusual."""
    values: dict[int, bytes] = {}
    place, last = 0, -1
    while place + _ELEMENT.size <= len(command_set):
        group, number, length = _ELEMENT.unpack_from(command_set, place)
        place += _ELEMENT.size
        if group or number <= last or number not in _KNOWN:
            return None
        values[number] = command_set[place : place + length]
        place, last = place + length, number
    if place != len(command_set) or not _is_plain(values):
        return None
    return StoreRequest(
        sop_class_uid=_text(values[_SOP_CLASS]),
        sop_instance_uid=_text(values[_SOP_INSTANCE]),
        transfer_syntax=transfer_syntax,
        message_id=int.from_bytes(values[_MESSAGE_ID], "little"),
    )


def _is_plain(values: dict[int, bytes]) -> bool:
    """Return whether these are the elements of a C-STORE-RQ that a data set follows."""
    return (
        all(number in values for number in _NEEDED)
        and all(len(values[number]) == _NUMBER.size for number in values.keys() & _NUMBERS)
        and len(values.get(_GROUP_LENGTH, b"size")) == _GROUP_LENGTH_BYTES
        and int.from_bytes(values[_COMMAND], "little") == _C_STORE_RQ
        and int.from_bytes(values[_PRIORITY], "little") in _PRIORITIES
        and int.from_bytes(values[_DATA_SET_TYPE], "little") != _NO_DATA_SET
        and all(_UID.match(values[uid].removesuffix(b"\0")) for uid in (_SOP_CLASS, _SOP_INSTANCE))
        and bool(_AE_TITLE.match(values.get(_MOVE_ORIGINATOR, b"ANY")))
    )


def _text(value: bytes) -> str:
    return value.removesuffix(b"\0").decode("ascii")


def response(request: StoreRequest, context_id: int, status: int, comment: str | None) -> bytes:
    """Return the PDU of a C-STORE-RSP with an Error Comment or without."""
    parts = [
        _element(_SOP_CLASS, _padded(request.sop_class_uid, b"\0")),
        _element(_COMMAND, _NUMBER.pack(_C_STORE_RSP)),
        _element(_RESPONDS_TO, _NUMBER.pack(request.message_id)),
        _element(_DATA_SET_TYPE, _NUMBER.pack(_NO_DATA_SET)),
        _element(_STATUS, _NUMBER.pack(status)),
    ]
    if comment is not None:
        parts.append(_element(_COMMENT, _padded(comment, b" ")))
    parts.append(_element(_SOP_INSTANCE, _padded(request.sop_instance_uid, b"\0")))
    body = b"".join(parts)
    body = _element(_GROUP_LENGTH, struct.pack("<L", len(body))) + body
    size = len(body) + 2
    return _PDV.pack(P_DATA_TF, size + 4, size, context_id, _LAST_COMMAND) + body


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    return value + padding if len(value) % 2 else value
