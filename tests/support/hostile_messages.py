"""Hostile command sets (PS3.7 section 6.3 and annex E), each around an honest data set."""

from __future__ import annotations

import struct

from hostile import (
    DATA,
    Attack,
    Fate,
    command_element,
    command_set,
    message,
    p_data,
    pdu,
    store_command,
)
from hostile_datasets import Slice

_STORE = {
    0x0002: "Affected SOP Class UID",
    0x0100: "Command Field",
    0x0110: "Message ID",
    0x0700: "Priority",
    0x0800: "Command Data Set Type",
    0x1000: "Affected SOP Instance UID",
}


def attacks() -> list[Attack]:
    """Return them all."""
    return [*_elements(), *_lengths(), *_fields(), *_orders(), *_unlike(), *_shapes()]


def _attack(
    name: str,
    command: bytes,
    fate: Fate = Fate.SURVIVED,
    *,
    slice_: Slice | None = None,
    context: int = 1,
) -> Attack:
    content = (slice_ or Slice(f"command {name}")).encoded()
    return Attack(
        name=f"command: {name}",
        payload=message(command, content, context=context),
        fate=fate,
        established=True,
        content=content,
    )


def _honest(name: str) -> tuple[Slice, dict[int, bytes]]:
    slice_ = Slice(f"command {name}")
    return slice_, store_command(instance=slice_.instance)


def _elements() -> list[Attack]:
    """Leave each element out, empty it, shorten it, blow it up and fill it with noise."""
    changes: dict[str, bytes | None] = {
        "missing": None,
        "empty": b"",
        "of one byte": b"\x01",
        "of 3 bytes": b"\xff\xfe\xfd",
        "of 70000 bytes": b"1" * 70000,
        "of NUL": bytes(8),
        "of a path": b"../../../../tmp/x",
        "of two values": b"1.2\\1.3 ",
    }
    found = []
    for number, keyword in _STORE.items():
        for how, value in changes.items():
            name = f"{keyword} {how}"
            slice_, elements = _honest(name)
            del elements[number]
            if value is not None:
                elements[number] = value
            found.append(_attack(name, command_set(elements), slice_=slice_))
    return found


def _lengths() -> list[Attack]:
    found = []
    for number, keyword in _STORE.items():
        for lie in (0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF):
            slice_, elements = _honest(f"{keyword} {lie}")
            body = b"".join(
                command_element(one, value, length=lie if one == number else None)
                for one, value in sorted(elements.items())
            )
            command = command_element(0, struct.pack("<L", len(body))) + body
            found.append(_attack(f"{keyword} said to have {lie} bytes", command, slice_=slice_))
    for lie in (b"", b"\x00", bytes(4), b"\xff" * 4, b"\x01\x00\x00\x00", b"\xff" * 9):
        slice_, elements = _honest(f"group length {lie!r}")
        body = command_set(elements)[12:]
        found.append(
            _attack(f"group length {lie.hex()}", command_element(0, lie) + body, slice_=slice_)
        )
    slice_, elements = _honest("no group length")
    return [*found, _attack("no group length", command_set(elements)[12:], slice_=slice_)]


def _fields() -> list[Attack]:
    """Ask for what is not served, and answer what was never asked."""
    found = []
    for field in (
        *(0x0000, 0x0002, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130),
        *(0x0140, 0x0150, 0x0FFF, 0x7FFF, 0x8001, 0x8010, 0x8020, 0x8021, 0x8030, 0x8100),
        *(0x8110, 0x8130, 0xFFFF),
    ):
        name = f"field {field:#06x}"
        slice_, elements = _honest(name)
        elements[0x0100] = struct.pack("<H", field)
        if field & 0x8000:
            elements[0x0120] = b"\x01\x00"
            elements[0x0900] = b"\x00\x00"
        found.append(_attack(name, command_set(elements), slice_=slice_))
    return found


def _orders() -> list[Attack]:
    slice_, elements = _honest("orders")
    command, content = command_set(elements), slice_.encoded()
    half = len(command) // 2
    fragments = b"".join(
        p_data(command[place : place + 1], control=1 if place + 1 < len(command) else 3)
        for place in range(len(command))
    )
    no_data = elements | {0x0800: b"\x01\x01"}

    def sent(name: str, payload: bytes, fate: Fate = Fate.SURVIVED) -> Attack:
        return Attack(
            name=f"order: {name}", payload=payload, fate=fate, established=True, content=content
        )

    return [
        sent("a data set without a command", p_data(content, control=2)),
        sent("the data set first", p_data(content, control=2) + p_data(command, control=3)),
        sent(
            "two commands into each other",
            p_data(command[:half], control=1) + p_data(command, control=3),
        ),
        sent("a command byte by byte", fragments + p_data(content, control=2), Fate.TAKEN),
        sent("no data set is announced, one follows", message(command_set(no_data), content)),
        sent("no data set", message(command_set(no_data), None), Fate.ENDED_OR_REFUSED),
        sent("an empty data set", message(command, b""), Fate.ENDED_OR_REFUSED),
        sent("a command that is never ended", p_data(command, control=1)),
        sent("a data set that is never ended", message(command, None) + p_data(content, control=0)),
        sent("a command within a data set", message(command, None) + p_data(command, control=3)),
        sent(
            "command and data in different contexts",
            p_data(command, control=3) + p_data(content, control=2, context=3),
        ),
        sent("an empty command", p_data(b"", control=3)),
        sent("a command in big endian", p_data(command[::-1], control=3)),
        sent("a C-STORE in the context of Verification", message(command, content, context=5)),
        sent(
            "command and data in one PDU",
            pdu(DATA, p_data(command, control=3)[6:] + p_data(content, control=2)[6:]),
            Fate.TAKEN,
        ),
        sent("a hundred commands at once", message(command, content) * 100),
    ]


def _unlike() -> list[Attack]:
    """The command and the data set name different things."""
    found = []
    for name, changes in {
        "another class": {0x0002: b"1.2.840.10008.5.1.4.1.1.2.1\0"},
        "an unknown class": {0x0002: b"1.2.3.4\0"},
        "MR": {0x0002: b"1.2.840.10008.5.1.4.1.1.4\0"},
        "another instance": {0x1000: b"1.2.3.4.5.6\0"},
        "a path as instance": {0x1000: b"../../../../etc/cron.d/x"},
        "an absolute path as instance": {0x1000: b"/etc/passwd\0"},
        "an instance beyond ASCII": {0x1000: b"1.2.\xff\xfe"},
        "an instance of 64 letters": {0x1000: b"a" * 64},
        "an instance with a line feed": {0x1000: b"1.2\n.3"},
    }.items():
        slice_, elements = _honest(name)
        command = command_set(elements | changes)
        found.append(_attack(f"says {name}", command, Fate.ENDED_OR_REFUSED, slice_=slice_))
    return found


def _shapes() -> list[Attack]:
    """A command set that is encoded as none may be."""
    slice_, elements = _honest("shapes")
    command = command_set(elements)
    nest = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + struct.pack("<HHL", 0, 0x5000, 0xFFFFFFFF)
    explicit = b"".join(
        struct.pack("<HH2sH", 0, number, b"UI", len(value)) + value
        for number, value in sorted(elements.items())
    )
    return [
        _attack("explicit VR", explicit, slice_=slice_),
        _attack(
            "elements twice", command + command_set(elements)[12:], slice_=Slice("twice in command")
        ),
        _attack("elements of the data set in it", command + slice_.encoded(), slice_=slice_),
        _attack(
            "a sequence 3000 deep",
            command + struct.pack("<HHL", 0, 0x5000, 0xFFFFFFFF) + nest * 3000,
            slice_=slice_,
        ),
        _attack("a megabyte of noise", bytes(range(256)) * 4096, slice_=slice_),
        _attack(
            "5000 unknown elements",
            command + b"".join(command_element(0x6000 + n, b"ab") for n in range(5000)),
            slice_=slice_,
        ),
    ]
