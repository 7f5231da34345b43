"""Hostile PDUs (PS3.8 section 9.3): before, instead of and inside an association."""

# ruff: noqa: PERF401 - lists are made of loops and of single cases side by side
from __future__ import annotations

import random
import struct

from hostile import (
    ABORT,
    AC,
    APPLICATION_CONTEXT,
    DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    RQ,
    Attack,
    Fate,
    associate,
    context_item,
    item,
    p_data,
    pdu,
    request_head,
    request_items,
    user_items,
)

_CT = b"1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = b"1.2.840.10008.1.2.1"
_VARIABLE_ITEMS = {0x10, 0x20, 0x30, 0x40, 0x50, 0x51, 0x52, 0x55}


def attacks() -> list[Attack]:
    """Return them all."""
    return [
        *_no_dicom(),
        *_unknown_types(),
        *_lying_lengths(),
        *_out_of_turn(),
        *_cut_requests(),
        *_lying_items(),
        *_contexts(),
        *_user_information(),
        *_heads(),
        *_inside(),
    ]


def _before(name: str, payload: bytes, fate: Fate = Fate.ENDED) -> Attack:
    return Attack(name=name, payload=payload, fate=fate)


def _within(name: str, payload: bytes, fate: Fate = Fate.ENDED) -> Attack:
    return Attack(name=name, payload=payload, fate=fate, established=True)


def _no_dicom() -> list[Attack]:
    chance = random.Random(4)  # noqa: S311 - the same noise each time
    noise = [_before(f"noise {number}", b"\x00" + chance.randbytes(60)) for number in range(10)]
    return [
        *noise,
        _before("nothing at all", b"", Fate.SURVIVED),
        _before("http", b"GET / HTTP/1.1\r\nHost: rales\r\n\r\n", Fate.SURVIVED),
        _before("tls hello", bytes.fromhex("160301020001 0001fc0303") + bytes(500)),
        _before("ssh", b"SSH-2.0-OpenSSH_9.6\r\n", Fate.SURVIVED),
        _before("zeros", bytes(4096)),
        _before("ones", b"\xff" * 4096),
    ]


def _unknown_types() -> list[Attack]:
    kinds = (0x00, 0x08, 0x09, 0x10, 0x20, 0x47, 0x7F, 0x80, 0xFE, 0xFF)
    return [
        *(_before(f"type {kind:#04x} first", pdu(kind, bytes(4))) for kind in kinds),
        *(_within(f"type {kind:#04x} inside", pdu(kind, bytes(4))) for kind in kinds),
    ]


def _lying_lengths() -> list[Attack]:
    honest = associate()[6:]
    found = []
    for kind in range(RQ, ABORT + 1):
        for length in (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 1 << 24):
            found.append(
                _before(f"type {kind} of {length} bytes first", pdu(kind, b"", length=length))
            )
            found.append(
                _within(f"type {kind} of {length} bytes inside", pdu(kind, b"", length=length))
            )
    for length in (0, 1, 4, 67, 68, 69, 74, len(honest) - 1):
        # What follows is then read as the next PDU.
        found.append(
            _before(f"request said to have {length} bytes", pdu(RQ, honest, length=length))
        )
    for kind in (RELEASE_RQ, RELEASE_RP, ABORT, AC, RJ):
        for length in (0, 1, 3):
            body = bytes(length)
            found.append(_within(f"type {kind} with {length} bytes inside", pdu(kind, body)))
    return found


def _out_of_turn() -> list[Attack]:
    bodies = {AC: associate()[6:], RJ: bytes([0, 1, 1, 1]), DATA: p_data(bytes(20), control=3)[6:]}
    names = {AC: "accept", RJ: "reject", DATA: "data"}
    names |= {RELEASE_RQ: "release", RELEASE_RP: "release answer", ABORT: "abort"}
    found = []
    for kind, name in names.items():
        body = bodies.get(kind, bytes(4))
        found.append(_before(f"{name} first", pdu(kind, body)))
        if kind not in {DATA, RELEASE_RQ}:
            found.append(_within(f"{name} inside", pdu(kind, body)))
    return [
        *found,
        _within("second request inside", associate()),
        _within("data after release", pdu(RELEASE_RQ, bytes(4)) + p_data(b"x" * 20, control=3)),
        _within("release twice", pdu(RELEASE_RQ, bytes(4)) * 2),
        _before("request twice at once", associate() * 2),
        _before("request and abort at once", associate() + pdu(ABORT, bytes(4))),
        _before("request and release at once", associate() + pdu(RELEASE_RQ, bytes(4))),
    ]


def _cut_requests() -> list[Attack]:
    honest = associate()
    places = sorted({0, 1, 5, 6, 7, 8, 10, 42, 73, *range(74, len(honest), 9), len(honest) - 1})
    return [_before(f"request cut at {one}", honest[:one], Fate.SURVIVED) for one in places]


def _lying_items() -> list[Attack]:
    """Lie in the length of every item, and change its type."""
    honest = bytearray(associate())
    found = []
    for place, kind in _items(bytes(honest)):
        (length,) = struct.unpack_from(">H", honest, place + 2)
        for lie in (0, length - 1, length + 1, 0x7FFF, 0xFFFF):
            changed = bytearray(honest)
            struct.pack_into(">H", changed, place + 2, lie)
            found.append(
                _before(
                    f"item {kind:#04x} at {place} of {lie} bytes", bytes(changed), Fate.SURVIVED
                )
            )
        changed = bytearray(honest)
        changed[place] = 0xFF
        found.append(_before(f"item {kind:#04x} at {place} unknown", bytes(changed), Fate.SURVIVED))
    return found


def _items(request: bytes) -> list[tuple[int, int]]:
    """Return place and type of the items of a request: those of the first context and of all."""
    found, place = [], 74
    contexts = 0
    while place + 4 <= len(request):
        kind = request[place]
        (length,) = struct.unpack_from(">H", request, place + 2)
        contexts += kind == 0x20
        if contexts <= 1 or kind not in {0x20, 0x30, 0x40}:
            found.append((place, kind))
        inside = {0x20: 8, 0x50: 4}.get(kind)
        place += inside if inside is not None else 4 + length
    return found


_STRANGE_UIDS = {
    "empty": b"",
    "of one letter": b"x",
    "of 65 digits": b"1." * 32 + b"1",
    "of 60000 digits": b"1" * 60000,
    "with NUL": b"1.2\x00.3",
    "of NUL": b"\x00" * 10,
    "of a path": b"../../../etc/passwd",
    "beyond ASCII": b"1.2.\xff\xfe\xe4",
    "of spaces": b"    ",
}


def _contexts() -> list[Attack]:
    user = item(0x50, b"".join(user_items()))
    name = item(0x10, APPLICATION_CONTEXT)

    def asked(label: str, *items: bytes) -> Attack:
        return _before(label, associate([name, *items, user]), Fate.SURVIVED)

    found = [
        asked("no context"),
        asked("a context without a syntax", context_item(1, _CT)),
        asked("a context twice", *[context_item(1, _CT, _EXPLICIT)] * 2),
        asked("a context with an even number", context_item(2, _CT, _EXPLICIT)),
        asked("a context with number 0", context_item(0, _CT, _EXPLICIT)),
        asked("300 contexts", *[context_item(n % 256, _CT, _EXPLICIT) for n in range(300)]),
        asked("2000 syntaxes", context_item(1, _CT, *[_EXPLICIT] * 2000)),
        asked("an empty context", item(0x20, b"")),
        asked("a context of 4 bytes", item(0x20, bytes([1, 0, 0, 0]))),
        asked("two abstract syntaxes", item(0x20, b"\x01\0\0\0" + item(0x30, _CT) * 2)),
        asked("a context within a context", item(0x20, b"\x01\0\0\0" + context_item(1, _CT))),
        asked("1000 application contexts", name * 1000, context_item(1, _CT, _EXPLICIT)),
    ]
    for label, uid in _STRANGE_UIDS.items():
        found.append(asked(f"abstract syntax {label}", context_item(1, uid, _EXPLICIT)))
        found.append(asked(f"transfer syntax {label}", context_item(1, _CT, uid)))
        items = [item(0x10, uid), context_item(1, _CT, _EXPLICIT), user]
        found.append(_before(f"application context {label}", associate(items), Fate.SURVIVED))
    return found


def _user_information() -> list[Attack]:
    honest = request_items()[:-1]

    def said(label: str, *subs: bytes) -> Attack:
        user = item(0x50, b"".join([*user_items(), *subs]))
        return _before(label, associate([*honest, user]), Fate.SURVIVED)

    found = [
        _before("no user information", associate(honest), Fate.SURVIVED),
        _before("empty user information", associate([*honest, item(0x50, b"")]), Fate.SURVIVED),
        _before(
            "ten user informations",
            associate([*honest, *[item(0x50, b"".join(user_items()))] * 10]),
            Fate.SURVIVED,
        ),
        said("a maximum length of 0 twice", item(0x51, bytes(4)) * 2),
        said("a maximum length of 1", item(0x51, struct.pack(">L", 1))),
        said("a maximum length of 2 bytes", item(0x51, b"\x00\x01")),
        said("a version name of 60000 bytes", item(0x55, b"V" * 60000)),
        said("a version name of NUL", item(0x55, bytes(16))),
        said("a version name beyond ASCII", item(0x55, b"\xff\xfe")),
        said("15000 empty sub-items", item(0x60, b"") * 15000),
        said("a role without a class", item(0x54, b"\x00\x00\x01\x01")),
        said("a role whose class is longer than it", item(0x54, b"\xff\xff1.2\x01\x01")),
        said("a user of 65000 bytes", item(0x58, b"\x01\x01\xfd\xe8" + b"u" * 65000)),
        said("a user whose length lies", item(0x58, b"\x01\x01\xff\xffuser")),
        said("a user of an unknown kind", item(0x58, b"\x63\x01\x00\x01u\x00\x00")),
        said("a negotiation that lies", item(0x56, b"\xff\xff" + _CT)),
        said("a common negotiation that lies", item(0x57, b"\xff\xff" + _CT)),
    ]
    for kind in (0x53, 0x54, 0x56, 0x57, 0x58, 0x59, 0x5A, 0xFF):
        for body in (b"", b"\x00", b"\xff" * 7):
            found.append(said(f"sub-item {kind:#04x} of {len(body)} bytes", item(kind, body)))
    return found


def _heads() -> list[Attack]:
    titles = {
        "of spaces": b" " * 16,
        "of NUL": bytes(16),
        "beyond ASCII": b"\xc4\xd6\xdc\xff",
        "with a backslash": b"A\\B",
        "with a line feed": b"A\nB\x1b[2J",
        "of a path": b"../../../etc",
        "of a format": b"%s%n{0}",
    }
    found = [
        _before(f"calling title {name}", associate(head=request_head(calling=one)), Fate.SURVIVED)
        for name, one in titles.items()
    ]
    found += [
        _before(f"called title {name}", associate(head=request_head(called=one)))
        for name, one in titles.items()
    ]
    found += [
        _before(f"protocol version {one}", associate(head=request_head(version=one)), Fate.SURVIVED)
        for one in (0, 2, 0xFFFF)
    ]
    return found


def _inside(name: str = "inside") -> list[Attack]:
    """Presentation data values that lie (PS3.8 section 9.3.5.1)."""
    found = [_within(f"an empty P-DATA {name}", pdu(DATA, b""), Fate.SURVIVED)]
    for length in (0, 1, 2, 3, 50, 0x7FFFFFFF, 0xFFFFFFFF):
        body = struct.pack(">LBB", length, 1, 3) + bytes(20)
        found.append(
            _within(f"a value said to have {length} bytes", pdu(DATA, body), Fate.SURVIVED)
        )
    for cut in range(1, 6):
        found.append(
            _within(f"a value cut at {cut}", pdu(DATA, bytes([0, 0, 0, 9, 1])[:cut]), Fate.SURVIVED)
        )
    for context in (0, 2, 17, 99, 255):
        for control in (0x00, 0x01, 0x02, 0x03):
            found.append(
                _within(
                    f"control {control} in context {context}, which was never asked for",
                    p_data(bytes(24), control=control, context=context),
                    Fate.SURVIVED,
                )
            )
    for control in (0x04, 0x08, 0x7F, 0x80, 0xFF):
        found.append(
            _within(f"control {control:#04x}", p_data(bytes(24), control=control), Fate.SURVIVED)
        )
    values = struct.pack(">LBB", 2, 1, 0) * 5000
    found.append(_within("5000 empty values in one PDU", pdu(DATA, values), Fate.SURVIVED))
    found.append(_within("500 empty PDUs", p_data(b"", control=0x00) * 500, Fate.SURVIVED))
    return found
