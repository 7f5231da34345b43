"""What a person may hand to ``rales analyze``: folders, files, lists of files, ZIP archives.

Whatever is wrong with one of them costs that one, and is said.
"""

from __future__ import annotations

import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from chestct.errors import ConfigError
from rales.cli.plainfiles import Unreadable, open_plain
from rales.cli.scanning import Found, scan

_LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
_LONGEST_LIST = 1 << 26
_MOST_MEMBERS = 100_000
_LEAST_UNPACKED = 1 << 28
_MOST_UNPACKED = 1 << 34
_UNPACKED_RATIO = 50
"""A ZIP archive may have 256 MiB or 50 times its size when it is unpacked, and 16 GiB at most:
CT shrinks to a half or a third, a bomb to a thousandth."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OSError,
    ValueError,
    ArithmeticError,
)
"""What zipfile raises on an archive that is none, or on a member that is damaged or encrypted."""


@dataclass(slots=True)
class Gathered:
    """The files that were named.

    Attributes:
        folder: Lasts as long as they are used.
        skipped: What cannot be read, with the reason.
        names: Those that people know, for files that have another one here.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)

    def name_of(self, path: Path) -> str:
        """Return the name by which people know a file."""
        return self.names.get(path, str(path))


@contextmanager
def gathered(inputs: Sequence[Path]) -> Iterator[Gathered]:
    """Yield every file that ``inputs`` name; archives are unpacked for as long.

    Raises:
        ConfigError: An input does not exist.
    """
    with TemporaryDirectory(prefix="rales-") as folder:
        found = Gathered(folder=Path(folder))
        for item in inputs:
            _add(item, found)
        yield found


def scanned(found: Gathered) -> Found:
    """Sort what was gathered into series; see :func:`rales.cli.scanning.scan`."""
    return scan(found.files, into=found.folder / "completed")


def _add(item: Path, found: Gathered) -> None:
    if not os.path.lexists(item):
        raise ConfigError(f"{item} does not exist")
    if item.is_dir():
        _add_folder(item, found)
        return
    try:
        with open_plain(item) as file:
            archive = zipfile.is_zipfile(file)
    except Unreadable as error:
        found.skipped.append((str(item), str(error)))
        return
    if archive:
        _add_archive(item, found)
    elif item.suffix.lower() in _LIST_SUFFIXES:
        _add_listed(item, found)
    else:
        found.files.append(item)


def _add_folder(folder: Path, found: Gathered) -> None:
    def unreadable(error: OSError) -> None:
        found.skipped.append((str(error.filename), f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        for name in sorted(folders):
            if (Path(place) / name).is_symlink():
                found.skipped.append((str(Path(place) / name), "is a link to a folder"))
        folders.sort()
        found.files.extend(Path(place) / name for name in sorted(files))


def _add_archive(archive: Path, found: Gathered) -> None:
    """Unpack under names of our own: those in the archive come from outside.

    Of an archive that grows beyond measure nothing is read: half of a series would be worse.
    """
    folder = found.folder / f"archive-{len(found.names)}-{len(found.skipped)}"
    folder.mkdir()
    limit = min(_MOST_UNPACKED, max(_LEAST_UNPACKED, _UNPACKED_RATIO * archive.stat().st_size))
    kept: list[Path] = []
    broken: list[tuple[str, str]] = []
    try:
        with open_plain(archive) as file, zipfile.ZipFile(file) as content:
            left = limit
            for number, member in enumerate(_members(content)):
                to = folder / f"{number:06d}-{_UNSAFE.sub('_', Path(member.filename).name)[-60:]}"
                name = f"{archive}: {member.filename}"
                try:
                    with content.open(member) as source:
                        left -= _copy(source, to, left, limit)
                except _BROKEN as error:
                    said = str(error) or type(error).__name__
                    broken.append((name, f"cannot be unpacked: {said}"))
                    continue
                kept.append(to)
                found.names[to] = name
    except _TooLarge as error:
        found.skipped.append((str(archive), str(error)))
    except (Unreadable, *_BROKEN) as error:
        found.skipped.append((str(archive), f"cannot be unpacked: {error}"))
    else:
        found.files += kept
        found.skipped += broken


class _TooLarge(Exception):
    """An archive beyond its limits."""


def _members(content: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in content.infolist() if not member.is_dir()]
    if len(members) > _MOST_MEMBERS:
        raise _TooLarge(f"has {len(members)} members, at most {_MOST_MEMBERS} are read")
    return members


def _copy(source: IO[bytes], to: Path, left: int, limit: int) -> int:
    """Write what comes; return how much it was. What a header says of it is not believed."""
    written = 0
    with to.open("wb") as file:
        while chunk := source.read(1 << 20):
            written += len(chunk)
            if written > left:
                raise _TooLarge(
                    f"has more than {limit >> 20} MiB when unpacked; none of it is read"
                )
            file.write(chunk)
    return written


def _add_listed(file: Path, found: Gathered) -> None:
    """Add the paths of a list, one a line, relative to the folder of the list."""
    try:
        with open_plain(file) as content:
            lines = content.read(_LONGEST_LIST).decode("utf-8-sig").splitlines()
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        found.skipped.append((str(file), f"is no list of files in UTF-8: {error}"))
        return
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        path = file.parent / line.strip()
        if not _is_there(path):
            found.skipped.append((str(path), f"is listed in {file}, but is no file"))
        else:
            found.files.append(path)


def _is_there(path: Path) -> bool:
    """Tell whether a path names something that is no folder; some texts are no path at all."""
    try:
        return os.path.lexists(path) and not path.is_dir()
    except (OSError, ValueError):
        return False
