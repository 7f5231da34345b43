"""What a person may hand to ``rales analyze``: folders, files, lists of files, ZIP archives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from chestct.errors import ConfigError

_LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})


@contextmanager
def gathered(inputs: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield every file that ``inputs`` name; archives are unpacked for as long.

    Raises:
        ConfigError: An input does not exist, or an archive or list cannot be read.
    """
    with ExitStack() as stack:
        yield [path for item in inputs for path in _expand(item, stack)]


def _expand(item: Path, stack: ExitStack) -> Iterator[Path]:
    if item.is_dir():
        yield from sorted(path for path in item.rglob("*") if path.is_file())
    elif not item.exists():
        raise ConfigError(f"{item} does not exist")
    elif zipfile.is_zipfile(item):
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rales-")))
        _unpack(item, folder)
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
    elif item.suffix.lower() in _LIST_SUFFIXES:
        yield from _listed(item)
    else:
        yield item


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack under names of our own: those in the archive come from outside."""
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if not member.is_dir()]
            for number, member in enumerate(members):
                with content.open(member) as source, (folder / f"{number:06d}").open("wb") as to:
                    while chunk := source.read(1 << 20):
                        to.write(chunk)
    except (zipfile.BadZipFile, RuntimeError, OSError, NotImplementedError) as error:
        raise ConfigError(f"{archive} cannot be unpacked: {error}") from error


def _listed(file: Path) -> Iterator[Path]:
    """Yield the paths of a list, one a line, relative to the folder of the list."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no list of files: {error}") from error
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        path = file.parent / line.strip()
        if not path.is_file():
            raise ConfigError(f"{file} lists {line.strip()}, which does not exist")
        yield path
