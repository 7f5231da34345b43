"""What a person may hand to ``rales analyze``: folders, files, lists of files, ZIP archives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from chestct.errors import ConfigError, NotDicom
from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid
from rales.intact import content_digest
from scp.contexts import STORAGE_SOP_CLASSES
from scp.headers import read_header

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a set of files holds: series, and files left out with the reason."""

    series: tuple[Series, ...]
    skipped: tuple[tuple[Path, str], ...]


def scan(files: Sequence[Path]) -> Found:
    """Read the header of every file and sort the CT images into series.

    The same image twice counts once.
    """
    members: dict[Uid, dict[Uid, ReceivedInstance]] = {}
    skipped: list[tuple[Path, str]] = []
    for path in files:
        try:
            instance = _describe(path)
        except (NotDicom, InvalidDicomError, OSError) as error:
            skipped.append((path, str(error) if isinstance(error, NotDicom) else "not DICOM"))
            continue
        if UID(instance.sop_class_uid) not in STORAGE_SOP_CLASSES:
            skipped.append((path, f"{UID(instance.sop_class_uid).name} is not analysed"))
            continue
        members.setdefault(instance.series_uid, {})[instance.sop_instance_uid] = instance
    return Found(
        series=tuple(Series.of(instances.values()) for instances in members.values()),
        skipped=tuple(skipped),
    )


def _describe(path: Path) -> ReceivedInstance:
    """Describe one file as if it had been received."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    header = read_header(dataset)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        raise NotDicom("the file does not say its Transfer Syntax UID")
    return ReceivedInstance(
        path=path,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        patient_key=header.patient_key,
        transfer_syntax_uid=Uid(syntax),
        content_digest=content_digest(path),
        size=path.stat().st_size,
        received_at=datetime.fromtimestamp(path.stat().st_mtime, tz=UTC),
        calling_ae="",
        slice_position=header.slice_position,
        expected_instances=header.expected_instances,
    )
