"""Sort DICOM files into series: describe each file as if it had been received."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from chestct.errors import NotDicom
from chestct.series import ReceivedInstance, Series
from chestct.text import printable
from chestct.uids import Uid
from rales.analysis.intact import content_digest
from rales.cli.plainfiles import Unreadable, read_unchanged
from scp.contexts import STORAGE_SOP_CLASSES
from scp.file_meta import file_start
from scp.headers import Header, parse, read_header
from scp.spool import Spooled
from scp.stored import instance_of

LARGEST_FILE = 1 << 30
"""The most bytes of a file: an Enhanced CT of 2000 slices."""
_PREAMBLE = 128
_META_GROUP = b"\x02\x00"
_LONG_VRS = frozenset((b"OB", b"UN", b"UT", b"OW", b"SQ"))
_SOP_CLASS = b"\x02\x00\x02\x00"
_SYNTAX = b"\x02\x00\x10\x00"
_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """The series in a set of files.

    Attributes:
        skipped: The files that are not used, each with the reason.
        files: The file of each instance, by SOP Instance UID.
        contested: The number of different instances under one SOP Instance UID, for each UID
            with more than one; the last instance is used.
    """

    series: tuple[Series, ...]
    skipped: tuple[tuple[Path, str], ...]
    files: Mapping[Uid, Path]
    contested: Mapping[Uid, int]


def scan(files: Sequence[Path], *, into: Path | None = None) -> ScanResult:
    """Read every file and sort the CT instances into series.

    Copies of an instance count once. For a data set without File Meta Information, a complete
    file is written to the directory ``into``; without ``into``, it is skipped.
    """
    members: dict[Uid, dict[Uid, ReceivedInstance]] = {}
    contents: defaultdict[Uid, set[str]] = defaultdict(set)
    skipped: list[tuple[Path, str]] = []
    paths: dict[Uid, Path] = {}
    for path in files:
        try:
            instance, content = _describe(path, into)
        except (NotDicom, Unreadable) as error:
            skipped.append((path, str(error)))
            continue
        members.setdefault(instance.series_uid, {})[instance.sop_instance_uid] = instance
        contents[instance.sop_instance_uid].add(content)
        paths[instance.sop_instance_uid] = path
    return ScanResult(
        series=tuple(Series.of(instances.values()) for instances in members.values()),
        skipped=tuple(skipped),
        files=paths,
        contested={uid: len(digests) for uid, digests in contents.items() if len(digests) > 1},
    )


def _describe(path: Path, into: Path | None) -> tuple[ReceivedInstance, str]:
    """Describe a file as if it had been received; also return the digest of its data set.

    Raises:
        NotDicom: The file is not a DICOM object that the node analyses.
        Unreadable: The file cannot be read.
    """
    content = read_unchanged(path, LARGEST_FILE)
    meta, data_set = _split(content)
    kind = meta.get(_SOP_CLASS)
    if kind and UID(kind) not in STORAGE_SOP_CLASSES:
        raise NotDicom(f"{UID(kind).name} is not analysed")
    stated = meta.get(_SYNTAX)
    syntax = UID(stated or _guess(data_set))
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise NotDicom(f"has the unsupported transfer syntax {syntax}")
    try:
        header = _header(data_set, syntax)
    except NotDicom as error:
        if stated:
            raise
        raise NotDicom(f"has no Transfer Syntax UID; read as {syntax.name}: {error}") from error
    if UID(header.sop_class_uid) not in STORAGE_SOP_CLASSES:
        raise NotDicom(f"{UID(header.sop_class_uid).name} is not analysed")
    try:
        received_at = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
        if not stated or content[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
            path = _completed(data_set, header, syntax, into)
        file = Spooled(path=path, content_digest=content_digest(path), size=path.stat().st_size)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    instance = instance_of(
        header, file, transfer_syntax=syntax, received_at=received_at, calling_ae=""
    )
    return instance, hashlib.sha256(data_set).hexdigest()


def _split(content: bytes) -> tuple[dict[bytes, str], bytes]:
    """Return the File Meta Information of a file as text by tag, and its data set.

    The preamble, the prefix and the whole File Meta Information may be missing.
    """
    position = 0
    for preamble in (0, _PREAMBLE):
        if content[preamble : preamble + 4] == b"DICM":
            position = preamble + 4
    meta: dict[bytes, str] = {}
    while content[position : position + 2] == _META_GROUP:
        tag = content[position : position + 4]
        long = content[position + 4 : position + 6] in _LONG_VRS
        start = position + (12 if long else 8)
        length = content[position + 8 : start] if long else content[position + 6 : start]
        position = start + int.from_bytes(length, "little")
        meta[tag] = printable(content[start : min(position, start + 64)].rstrip(b"\0 "))
    if position > len(content):
        raise NotDicom("is truncated in its File Meta Information")
    return meta, content[position:]


def _guess(data_set: bytes) -> str:
    """Guess the transfer syntax of a data set without File Meta Information.

    Every composite object starts with group 0008. If two capital letters follow the first tag,
    they are a VR. The compression of the pixels cannot be guessed: see
    :func:`scp.headers.parse`.
    """
    if data_set[:2] == b"\0\x08":
        raise NotDicom("has no Transfer Syntax UID, and is big endian or not DICOM")
    if data_set[:2] != b"\x08\0":
        raise NotDicom("is not DICOM")
    explicit = data_set[4:6].isalpha() and data_set[4:6].isupper()
    return ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian


def _header(data_set: bytes, syntax: UID) -> Header:
    if syntax != ExplicitVRBigEndian:
        return parse(data_set, syntax)
    try:  # a retired transfer syntax that the receiver does not accept, but old files have
        return read_header(
            read_dataset(
                BytesIO(data_set),
                is_implicit_VR=False,
                is_little_endian=False,
                stop_when=_is_pixels,
            )
        )
    except NotDicom:
        raise
    except Exception as error:  # a parser may raise anything on hostile input
        raise NotDicom(f"cannot be parsed as {syntax.name}: {type(error).__name__}") from error


def _is_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) >= _PIXEL_DATA


def _completed(data_set: bytes, header: Header, syntax: UID, into: Path | None) -> Path:
    """Write a data set with the File Meta Information that it lacks; return the path."""
    if into is None:
        raise NotDicom("has no File Meta Information")
    into.mkdir(exist_ok=True)
    path = into / f"{hashlib.sha256(data_set).hexdigest()}.dcm"
    path.write_bytes(file_start(header, syntax) + data_set)
    return path
