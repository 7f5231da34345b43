"""Hostile data sets (PS3.5): what a C-STORE that looks honest may carry.

A data set is built of raw elements, so that every byte of it can lie.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from hostile import Attack, Fate, store_attack
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from chestct.uids import derive_uid

SIDE = 16
_LONG = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT", b"OD", b"UC", b"OV"})
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
Tag = tuple[int, int]

SOP_CLASS, SOP_INSTANCE = (0x0008, 0x0016), (0x0008, 0x0018)
STUDY, SERIES = (0x0020, 0x000D), (0x0020, 0x000E)
CHARACTER_SET, PATIENT_NAME, PATIENT_ID = (0x0008, 0x0005), (0x0010, 0x0010), (0x0010, 0x0020)
ROWS, COLUMNS, BITS, SAMPLES = (0x28, 0x10), (0x28, 0x11), (0x28, 0x100), (0x28, 0x02)
FRAMES, PIXELS = (0x0028, 0x0008), (0x7FE0, 0x0010)


@dataclass
class Slice:
    """One CT image as raw elements: tag, VR and value, in order; ``extra`` goes in as bytes."""

    name: str
    elements: dict[Tag, tuple[bytes, bytes]] = field(default_factory=dict)
    extra: dict[Tag, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make it whole; what was given stays."""
        uid = derive_uid("hostile", self.name)
        honest = {
            CHARACTER_SET: (b"CS", b"ISO_IR 100"),
            (0x0008, 0x0008): (b"CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
            SOP_CLASS: (b"UI", str(CTImageStorage).encode()),
            SOP_INSTANCE: (b"UI", uid.encode()),
            (0x0008, 0x0060): (b"CS", b"CT"),
            PATIENT_NAME: (b"PN", b"Hostile^Input"),
            PATIENT_ID: (b"LO", b"HOSTILE"),
            (0x0018, 0x0050): (b"DS", b"2.5"),
            STUDY: (b"UI", derive_uid("hostile study", self.name).encode()),
            SERIES: (b"UI", derive_uid("hostile series", self.name).encode()),
            (0x0020, 0x0032): (b"DS", b"0\\0\\0"),
            (0x0020, 0x0037): (b"DS", b"1\\0\\0\\0\\1\\0"),
            (0x0020, 0x0052): (b"UI", derive_uid("hostile frame").encode()),
            (0x0020, 0x1209): (b"IS", b"1"),
            SAMPLES: (b"US", b"\x01\x00"),
            (0x0028, 0x0004): (b"CS", b"MONOCHROME2"),
            ROWS: (b"US", struct.pack("<H", SIDE)),
            COLUMNS: (b"US", struct.pack("<H", SIDE)),
            (0x0028, 0x0030): (b"DS", b"1\\1"),
            BITS: (b"US", b"\x10\x00"),
            (0x0028, 0x0101): (b"US", b"\x10\x00"),
            (0x0028, 0x0102): (b"US", b"\x0f\x00"),
            (0x0028, 0x0103): (b"US", b"\x01\x00"),
            (0x0028, 0x1052): (b"DS", b"0"),
            (0x0028, 0x1053): (b"DS", b"1"),
            PIXELS: (b"OW", bytes(2 * SIDE * SIDE)),
        }
        self.elements = honest | self.elements

    @property
    def instance(self) -> bytes:
        """The SOP Instance UID that the data set has, as it has it."""
        return self.elements.get(SOP_INSTANCE, (b"UI", b"1.2.3"))[1]

    def encoded(self, syntax: UID = ExplicitVRLittleEndian) -> bytes:
        """Return the bytes under ``syntax``, not deflated."""
        parts = {
            tag: element(tag, vr, value, implicit=syntax == ImplicitVRLittleEndian)
            for tag, (vr, value) in self.elements.items()
        }
        return b"".join(part for _, part in sorted((parts | self.extra).items()))

    def attack(self, fate: Fate, syntax: UID = ExplicitVRLittleEndian) -> Attack:
        """Return the C-STORE of it."""
        content = self.encoded(syntax)
        return store_attack(
            f"data set: {self.name}", content, fate, instance=self.instance, syntax=syntax
        )


def element(
    tag: Tag, vr: bytes, value: bytes, *, implicit: bool = False, length: int | None = None
) -> bytes:
    """Return an encoded element (PS3.5 section 7.1); ``length`` lies."""
    padding = b"\0" if vr in {b"UI", b"OB", b"UN"} else b" "
    padded = value + padding * (len(value) % 2)
    size = len(padded) if length is None else length
    head = struct.pack("<HH", *tag)
    if implicit:
        return head + struct.pack("<L", size) + padded
    if vr in _LONG:
        return head + vr + struct.pack("<HL", 0, size) + padded
    return head + vr + struct.pack("<H", size) + padded


def without(name: str, *tags: Tag) -> Slice:
    """Return a slice that lacks some elements."""
    made = Slice(name)
    for tag in tags:
        del made.elements[tag]
    return made


def attacks() -> list[Attack]:
    """Return them all."""
    return [
        *_cuts(),
        *_uids(),
        *_nests(),
        *_lying_syntaxes(),
        *_deflated(),
        *_pixels(),
        *_fragments(),
        *_value_representations(),
        *_lengths(),
        *_junk(),
    ]


def _cuts() -> list[Attack]:
    """End at every boundary of an element, inside its head and inside its value."""
    found = []
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        whole = Slice(f"cut {syntax.name}")
        content, place = whole.encoded(syntax), 0
        places: list[int] = []
        for tag, (vr, value) in sorted(whole.elements.items()):
            places += [place, place + 5, place + 9]
            place += len(element(tag, vr, value, implicit=syntax == ImplicitVRLittleEndian))
        for cut in [*places, len(content) - 2, len(content) - 1]:
            name = f"{syntax.name} cut at {cut}"
            found.append(
                store_attack(
                    name, content[:cut], Fate.REFUSED, instance=whole.instance, syntax=syntax
                )
            )
    return found


_BAD_UIDS = {
    "empty": b"",
    "of spaces": b"   ",
    "of NUL": bytes(10),
    "of 65 digits": b"1." * 32 + b"1",
    "of 30000 digits": b"1." * 15000,
    "up and away": b"../../../../../../tmp/x",
    "an absolute path": b"/etc/cron.d/rales",
    "a path within": b"1.2/3.4",
    "with NUL within": b"1.2\x00/../x",
    "with a backslash": b"1.2\\1.3",
    "of letters": b"abc.def",
    "beyond ASCII": b"1.2.\xff\xfe\xc4",
    "with a line feed": b"1.2\n3.4",
    "with a sign": b"1.-2",
    "of SQL": b"1.2'; DROP TABLE instances; --",
    "of digits of other scripts": "1.2.٣".encode(),
}


def _uids() -> list[Attack]:
    found = []
    names = {SOP_CLASS: "class", SOP_INSTANCE: "instance", STUDY: "study", SERIES: "series"}
    for tag, kind in names.items():
        for how, value in _BAD_UIDS.items():
            name = f"{kind} UID {how}"
            made = Slice(name, {tag: (b"UI", value)})
            fate = Fate.ENDED_OR_REFUSED if tag == SOP_INSTANCE else Fate.REFUSED
            found.append(made.attack(fate))
        found.append(without(f"no {kind} UID", tag).attack(Fate.REFUSED))
    return found


def nested(depth: int, *, defined: bool, implicit: bool = False) -> bytes:
    """Return a private sequence of ``depth`` sequences within each other."""
    tag = (0x0009, 0x1001)
    vr = b"" if implicit else b"SQ\0\0"
    head = struct.pack("<HH", *tag) + vr
    if not defined:
        start = head + b"\xff\xff\xff\xff" + _ITEM + b"\xff\xff\xff\xff"
        return start * depth + (_ITEM_END + _SEQUENCE_END) * depth
    parts: list[bytes] = []
    size = 0
    for _ in range(depth):
        part = head + struct.pack("<L", size + 8) + _ITEM + struct.pack("<L", size)
        parts.append(part)
        size += len(part)
    return b"".join(reversed(parts))


def _nests() -> list[Attack]:
    found = []
    for depth in (2, 10, 200, 400, 1000, 3000, 20000):
        fate = Fate.TAKEN if depth <= 10 else Fate.REFUSED
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            for defined in (True, False):
                name = f"{depth} deep, {'defined' if defined else 'undefined'}, {syntax.name}"
                implicit = syntax == ImplicitVRLittleEndian
                if implicit and defined:
                    continue  # no sequence for who does not know the tag: bytes of UN
                made = Slice(name)
                made.extra[0x0009, 0x1001] = nested(depth, defined=defined, implicit=implicit)
                found.append(made.attack(fate, syntax))
    unknown = Slice("3000 deep within UN")
    content = nested(3000, defined=True, implicit=True)
    unknown.extra[0x0009, 0x1001] = element((0x0009, 0x1001), b"UN", content)
    found.append(unknown.attack(Fate.TAKEN))  # bytes, as far as anybody knows
    known = Slice("3000 deep in a sequence that is read")
    known.extra[0x0008, 0x1140] = b"\x08\x00\x40\x11" + nested(3000, defined=True)[4:]
    found.append(known.attack(Fate.REFUSED))
    open_ended = Slice("20000 sequences that never end")
    open_ended.extra[0x0009, 0x1001] = nested(20000, defined=False)[: 20000 * 20]
    found.append(open_ended.attack(Fate.REFUSED))
    return found


def _lying_syntaxes() -> list[Attack]:
    """Send each encoding in the context of each other one."""
    encodings: dict[UID, Callable[[Slice], bytes]] = {
        ExplicitVRLittleEndian: lambda one: one.encoded(),
        ImplicitVRLittleEndian: lambda one: one.encoded(ImplicitVRLittleEndian),
        DeflatedExplicitVRLittleEndian: lambda one: zlib.compress(one.encoded(), wbits=-15),
        RLELossless: lambda one: one.encoded(),
        JPEG2000Lossless: lambda one: one.encoded(),
        JPEGLSLossless: lambda one: one.encoded(),
        JPEGLosslessSV1: lambda one: one.encoded(),
    }
    found = []
    for said in encodings:
        for sent in (
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
            DeflatedExplicitVRLittleEndian,
        ):
            if said == sent:
                continue
            made = Slice(f"said to be {said.name}, is {sent.name}")
            found.append(
                store_attack(
                    made.name,
                    encodings[sent](made),
                    Fate.REFUSED,
                    instance=made.instance,
                    syntax=said,
                )
            )
    big = Slice("is big endian")
    swapped = b"".join(
        struct.pack(">HH", *tag) + vr + struct.pack(">H", len(value)) + value
        for tag, (vr, value) in sorted(big.elements.items())
        if vr not in _LONG
    )
    found.append(store_attack(big.name, swapped, Fate.REFUSED, instance=big.instance))
    meta = Slice("begins with file meta information")
    content = bytes(128) + b"DICM" + meta.encoded()
    found.append(store_attack(meta.name, content, Fate.REFUSED, instance=meta.instance))
    return found


def _deflated() -> list[Attack]:
    found = []
    for name, change in {
        "a bomb of 100 MB": lambda one: _bomb(one, 100 << 20),
        "cut": lambda one: zlib.compress(one, wbits=-15)[:-20],
        "with a zlib head": zlib.compress,
        "noise": lambda _: bytes(range(256)) * 8,
        "empty": lambda _: b"",
        "damaged": lambda one: zlib.compress(one, wbits=-15)[:50] + b"\xff" * 60,
    }.items():
        made = Slice(f"deflated: {name}")
        content = change(made.encoded())
        fate = Fate.REFUSED
        found.append(
            store_attack(
                made.name,
                content,
                fate,
                instance=made.instance,
                syntax=DeflatedExplicitVRLittleEndian,
            )
        )
    return found


def _bomb(start: bytes, size: int) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    parts = [deflater.compress(start)]
    zeros = bytes(1 << 20)
    parts += [deflater.compress(zeros) for _ in range(size >> 20)]
    return b"".join([*parts, deflater.flush()])


def _pixels() -> list[Attack]:
    """Pixel data that is not as long or not of the shape that the header says."""
    found = []
    short = {
        "rows 65535": {ROWS: (b"US", b"\xff\xff")},
        "rows and columns 65535": {ROWS: (b"US", b"\xff\xff"), COLUMNS: (b"US", b"\xff\xff")},
        "2147483647 frames": {FRAMES: (b"IS", b"2147483647")},
        "samples 65535": {SAMPLES: (b"US", b"\xff\xff")},
        "bits 65535": {BITS: (b"US", b"\xff\xff")},
        "bits 32": {BITS: (b"US", b"\x20\x00")},
        "no pixels": {PIXELS: (b"OW", b"")},
        "one byte of pixels": {PIXELS: (b"OW", b"\x01")},
        "half of the pixels": {PIXELS: (b"OW", bytes(SIDE * SIDE))},
        "rows 0": {ROWS: (b"US", b"\0\0")},
        "columns 0": {COLUMNS: (b"US", b"\0\0")},
        "bits 0": {BITS: (b"US", b"\0\0")},
        "samples 0": {SAMPLES: (b"US", b"\0\0")},
        "rows of 4 bytes": {ROWS: (b"UL", b"\x10\0\0\0")},
        "rows empty": {ROWS: (b"US", b"")},
        "pixels in a sequence": {PIXELS: (b"SQ", b"")},
    }
    for name, changes in short.items():
        found.append(Slice(f"pixels: {name}", changes).attack(Fate.REFUSED))
    for name, tags in {
        "no Pixel Data": (PIXELS,),
        "no Rows": (ROWS,),
        "no Columns": (COLUMNS,),
        "no Bits Allocated": (BITS,),
        "no Samples": (SAMPLES,),
    }.items():
        found.append(without(f"pixels: {name}", *tags).attack(Fate.REFUSED))
    for name, changes in {
        "0 frames": {FRAMES: (b"IS", b"0")},
        "-1 frames": {FRAMES: (b"IS", b"-1")},
        "many frames": {FRAMES: (b"IS", b"many")},
        "bits 1": {BITS: (b"US", b"\x01\x00")},
        "too many pixels": {PIXELS: (b"OW", bytes(1 << 20))},
    }.items():
        found.append(Slice(f"pixels: {name}", changes).attack(Fate.TAKEN))
    return found


def fragment(value: bytes, *, length: int | None = None) -> bytes:
    """Return one item of encapsulated pixel data (PS3.5 annex A.4); ``length`` lies."""
    return _ITEM + struct.pack("<L", len(value) if length is None else length) + value


def encapsulated(*parts: bytes, end: bytes = _SEQUENCE_END) -> bytes:
    """Return Pixel Data of undefined length, whatever its parts are."""
    return struct.pack("<HH", *PIXELS) + b"OB\0\0\xff\xff\xff\xff" + b"".join(parts) + end


def rle(segments: int = 2, size: int = 2 * SIDE) -> bytes:
    """Return an RLE frame (PS3.5 annex G) whose segments hold runs of zeros."""
    offsets = [64 + number * size for number in range(segments)]
    header = struct.pack("<16L", segments, *offsets, *[0] * (15 - segments))
    return header + b"\x81\x00" * (size // 2) * segments


def _fragments() -> list[Attack]:
    found = []
    table, frame = fragment(b""), rle()
    jpeg2000 = b"\xff\x4f\xff\x51" + bytes(60)
    for name, syntax, parts, end in [
        ("no fragment", RLELossless, [table], _SEQUENCE_END),
        ("nothing at all", RLELossless, [], _SEQUENCE_END),
        ("no end", RLELossless, [table, fragment(frame)], b""),
        ("a fragment of 4 GB", RLELossless, [table, fragment(frame, length=0xFFFFFFFE)], b""),
        ("a fragment without end", RLELossless, [table, fragment(frame, length=_UNDEFINED)], b""),
        ("a fragment too long", RLELossless, [table, fragment(frame, length=4000)], _SEQUENCE_END),
        ("a table of 4 GB", RLELossless, [fragment(b"", length=0xFFFFFFF0)], b""),
        ("noise for items", RLELossless, [b"noise for items."], _SEQUENCE_END),
        ("an RLE head of 0 segments", RLELossless, [table, fragment(rle(0))], _SEQUENCE_END),
        (
            "an RLE head of 16 segments",
            RLELossless,
            [table, fragment(b"\x10" + frame[1:])],
            _SEQUENCE_END,
        ),
        ("an RLE head that is cut", RLELossless, [table, fragment(frame[:60])], _SEQUENCE_END),
        ("JPEG 2000 for RLE", RLELossless, [table, fragment(jpeg2000)], _SEQUENCE_END),
        ("RLE for JPEG 2000", JPEG2000Lossless, [table, fragment(frame)], _SEQUENCE_END),
        ("RLE for JPEG-LS", JPEGLSLossless, [table, fragment(frame)], _SEQUENCE_END),
        ("RLE for JPEG", JPEGLosslessSV1, [table, fragment(frame)], _SEQUENCE_END),
        ("JPEG 2000 for JPEG-LS", JPEGLSLossless, [table, fragment(jpeg2000)], _SEQUENCE_END),
        ("zeros for JPEG 2000", JPEG2000Lossless, [table, fragment(bytes(64))], _SEQUENCE_END),
    ]:
        made = without(f"fragments: {name}", PIXELS)
        made.extra[PIXELS] = encapsulated(*parts, end=end)
        found.append(made.attack(Fate.REFUSED, syntax))
    native = without("fragments: under a native syntax", PIXELS)
    native.extra[PIXELS] = encapsulated(table, fragment(frame))
    found.append(native.attack(Fate.REFUSED))
    return found


def _value_representations() -> list[Attack]:
    """Give the elements that the receiver reads another VR than theirs (PS3.5 section 6.2)."""
    found = []
    names = {SOP_CLASS: "class", SOP_INSTANCE: "instance", STUDY: "study", SERIES: "series"}
    for tag, name in names.items():
        value = Slice(f"VR of {name}").elements[tag][1]
        for vr in (b"SQ", b"OB", b"US", b"FD", b"PN", b"XX", b"zz", b"\0\0", b"DS", b"AT"):
            made = Slice(f"{name} UID as VR {vr.decode('latin-1')!r}", {tag: (vr, value)})
            found.append(made.attack(Fate.REFUSED))
        unknown = Slice(f"{name} UID as VR UN", {tag: (b"UN", value)})
        found.append(unknown.attack(Fate.TAKEN))  # what a PACS makes of what it does not know
    for tag, name in {ROWS: "Rows", PATIENT_NAME: "name", (0x20, 0x32): "position"}.items():
        for vr in (b"FD", b"PN", b"UT", b"OB"):
            made = Slice(f"{name} as VR {vr.decode()}")
            made.elements[tag] = (vr, made.elements[tag][1])
            found.append(made.attack(Fate.TAKEN))
    return found


def _lengths() -> list[Attack]:
    """Lie in the length of an element in the middle of the data set."""
    found = []
    for lie in (1, 3, 0x7FFF, 0xFFFF):
        made = Slice(f"a name said to have {lie} bytes")
        made.extra[PATIENT_NAME] = element(PATIENT_NAME, b"PN", b"Hostile^Input", length=lie)
        found.append(made.attack(Fate.REFUSED))
    for lie in (0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF):
        for vr in (b"OB", b"UN", b"SQ", b"UT"):
            made = Slice(f"a private {vr.decode()} said to have {lie} bytes")
            tag = (0x0009, 0x1002)
            made.extra[tag] = element(tag, vr, b"value", length=lie)
            found.append(made.attack(Fate.REFUSED))
    for lie in (0, 0xFFFFFFFF, 1):
        made = Slice(f"a group said to have {lie} bytes")
        tag = (0x0028, 0x0000)
        made.extra[tag] = element(tag, b"UL", struct.pack("<L", lie))
        found.append(made.attack(Fate.TAKEN))  # retired in 2006: nobody may rely on it
    return found


def _junk() -> list[Attack]:
    """What is odd and still a whole data set; and what only looks like one."""
    found = []
    private = (0x0029, 0x1010)
    for name, extra in {
        "noise in private bytes": {private: element(private, b"OB", bytes(range(256)) * 40)},
        "a private element without a creator": {private: element(private, b"UN", b"x" * 20)},
        "20000 private elements": {
            (0x0029, 0x1000): b"".join(
                element((0x0029, 0x1000 + number), b"UN", b"") for number in range(20000)
            )
        },
        "a private text of 4 MB": {private: element(private, b"UT", b"t" * (4 << 20))},
    }.items():
        made = Slice(f"junk: {name}")
        made.extra |= extra
        found.append(made.attack(Fate.TAKEN))
    for name, value in {
        "unknown": b"ISO_IR 999",
        "of escapes that are none": b"\\ISO 2022 IR 9999",
        "of a path": b"../../../etc",
        "of 60000 bytes": b"ISO_IR 100\\" * 5000,
    }.items():
        made = Slice(f"junk: a character set {name}", {CHARACTER_SET: (b"CS", value)})
        made.elements[PATIENT_NAME] = (b"PN", b"\x1b$B\xff\xff\x1b(J^\xe4\xf6")
        found.append(made.attack(Fate.TAKEN))
    noise = Slice("junk: a character set of noise", {CHARACTER_SET: (b"CS", b"\xff\xfe\0\1")})
    found.append(noise.attack(Fate.REFUSED))
    for name, vr in {"a number": b"US", "a sequence": b"SQ", "bytes": b"OB"}.items():
        made = Slice(f"junk: a character set as {name}", {CHARACTER_SET: (vr, b"")})
        found.append(made.attack(Fate.TAKEN))
    whole = Slice("junk: two data sets")
    content = whole.encoded() + _ITEM_END + whole.encoded()
    found.append(store_attack(whole.name, content, Fate.REFUSED, instance=whole.instance))
    text = Slice("junk: text for a data set")
    found.append(store_attack(text.name, b"PATIENT;NAME\n" * 200, Fate.REFUSED))
    return found
