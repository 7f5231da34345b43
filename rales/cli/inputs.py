"""The inputs of ``rales analyze``: directories, files, lists of files and ZIP archives.

An unusable input is skipped, with a reason, and does not affect the other inputs.
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
from rales.cli.scanning import ScanResult, scan

_LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
_LONGEST_LIST = 1 << 26
_MOST_MEMBERS = 100_000
_LEAST_UNPACKED = 1 << 28
_MOST_UNPACKED = 1 << 34
_UNPACKED_RATIO = 50
"""A ZIP archive may unpack to 256 MiB or 50 times its size, whichever is more, but not to more than
16 GiB. CT compresses to a half or a third, a ZIP bomb to a thousandth."""
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
"""The exceptions of zipfile for a file that is not a ZIP, and for damaged or encrypted members."""


@dataclass(slots=True)
class InputFiles:
    """The files that the inputs name.

    Attributes:
        directory: A temporary directory for unpacked and completed files.
        files: The files to read.
        skipped: The names of unusable inputs, each with the reason.
        names: The names to show for files in ``directory``.
    """

    directory: Path
    files: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)

    def name_of(self, path: Path) -> str:
        """Return the name to show for a file."""
        return self.names.get(path, str(path))


@contextmanager
def input_files(inputs: Sequence[Path]) -> Iterator[InputFiles]:
    """Yield every file that ``inputs`` name; archives stay unpacked until the context ends.

    Raises:
        ConfigError: An input does not exist.
    """
    with TemporaryDirectory(prefix="rales-") as directory:
        result = InputFiles(directory=Path(directory))
        for item in inputs:
            _add(item, result)
        yield result


def scan_inputs(result: InputFiles) -> ScanResult:
    """Sort the files into series; see :func:`rales.cli.scanning.scan`."""
    return scan(result.files, into=result.directory / "completed")


def _add(item: Path, result: InputFiles) -> None:
    if not os.path.lexists(item):
        raise ConfigError(f"{item} does not exist")
    if item.is_dir():
        _add_directory(item, result)
        return
    try:
        with open_plain(item) as file:
            archive = zipfile.is_zipfile(file)
    except Unreadable as error:
        result.skipped.append((str(item), str(error)))
        return
    if archive:
        _add_archive(item, result)
    elif item.suffix.lower() in _LIST_SUFFIXES:
        _add_listed(item, result)
    else:
        result.files.append(item)


def _add_directory(directory: Path, result: InputFiles) -> None:
    def unreadable(error: OSError) -> None:
        result.skipped.append((str(error.filename), f"cannot be read: {error.strerror}"))

    for parent, directories, files in os.walk(directory, onerror=unreadable):
        for name in sorted(directories):
            path = Path(parent) / name
            if path.is_symlink():
                result.skipped.append((str(path), "is a symbolic link to a directory"))
        directories.sort()
        result.files.extend(Path(parent) / name for name in sorted(files))


def _add_archive(archive: Path, result: InputFiles) -> None:
    """Unpack an archive under safe names: the names in the archive may point outside.

    An archive that exceeds the limits is skipped as a whole: half of a series would be worse.
    """
    directory = result.directory / f"archive-{len(result.names)}-{len(result.skipped)}"
    directory.mkdir()
    limit = min(_MOST_UNPACKED, max(_LEAST_UNPACKED, _UNPACKED_RATIO * archive.stat().st_size))
    kept: list[Path] = []
    broken: list[tuple[str, str]] = []
    try:
        with open_plain(archive) as file, zipfile.ZipFile(file) as content:
            left = limit
            for number, member in enumerate(_members(content)):
                to = (
                    directory / f"{number:06d}-{_UNSAFE.sub('_', Path(member.filename).name)[-60:]}"
                )
                name = f"{archive}: {member.filename}"
                try:
                    with content.open(member) as source:
                        left -= _copy(source, to, left, limit)
                except _BROKEN as error:
                    reason = str(error) or type(error).__name__
                    broken.append((name, f"cannot be unpacked: {reason}"))
                    continue
                kept.append(to)
                result.names[to] = name
    except _TooLarge as error:
        result.skipped.append((str(archive), str(error)))
    except (Unreadable, *_BROKEN) as error:
        result.skipped.append((str(archive), f"cannot be unpacked: {error}"))
    else:
        result.files += kept
        result.skipped += broken


class _TooLarge(Exception):
    """An archive exceeds its limits."""


def _members(content: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in content.infolist() if not member.is_dir()]
    if len(members) > _MOST_MEMBERS:
        raise _TooLarge(f"has {len(members)} members, more than the limit of {_MOST_MEMBERS}")
    return members


def _copy(source: IO[bytes], to: Path, left: int, limit: int) -> int:
    """Write a member and return its size; the size in its header may be wrong."""
    written = 0
    with to.open("wb") as file:
        while chunk := source.read(1 << 20):
            written += len(chunk)
            if written > left:
                raise _TooLarge(
                    f"unpacks to more than the limit of {limit >> 20} MiB; all of it is skipped"
                )
            file.write(chunk)
    return written


def _add_listed(file: Path, result: InputFiles) -> None:
    """Add the paths of a list, one per line, relative to the directory of the list."""
    try:
        with open_plain(file) as content:
            lines = content.read(_LONGEST_LIST).decode("utf-8-sig").splitlines()
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        result.skipped.append((str(file), f"is not a list of files in UTF-8: {error}"))
        return
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        path = file.parent / line.strip()
        if not _is_file(path):
            result.skipped.append((str(path), f"is listed in {file}, but is not a file"))
        else:
            result.files.append(path)


def _is_file(path: Path) -> bool:
    """Return whether a path exists and is not a directory; some texts are not valid paths."""
    try:
        return os.path.lexists(path) and not path.is_dir()
    except (OSError, ValueError):
        return False
