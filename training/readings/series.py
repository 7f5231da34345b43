"""The CT series in some folders, sorted as ``rales analyze`` sorts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chestct.series import Series, contested_uids
from rales.cli.inputs import InputFiles, input_files, scan_inputs
from rales.cli.scanning import ScanResult


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSeries:
    """A series in a folder.

    Attributes:
        folder: The deepest folder that holds all its files.
        notes: Remarks on its files, such as different images under one UID.
    """

    series: Series
    folder: Path
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFiles:
    """The series in some folders; ``unusable`` names every other file, with the reason."""

    series: tuple[FoundSeries, ...]
    unusable: tuple[tuple[str, str], ...]


@contextmanager
def find_series(folders: Sequence[Path]) -> Iterator[FoundFiles]:
    """Yield the series in ``folders``, by folder; they can be loaded until the context ends."""
    with input_files(folders) as files:
        scan = scan_inputs(files)
        series = [_found(each, scan) for each in scan.series]
        yield FoundFiles(
            series=tuple(sorted(series, key=lambda each: (each.folder, each.series.series_uid))),
            unusable=_unusable(files, scan),
        )


def _found(series: Series, scan: ScanResult) -> FoundSeries:
    uids = [instance.sop_instance_uid for instance in series.instances]
    contested = {uid: scan.contested[uid] for uid in uids if uid in scan.contested}
    return FoundSeries(
        series=series,
        folder=Path(os.path.commonpath([scan.files[uid].parent for uid in uids])),
        notes=(contested_uids(contested),) if contested else (),
    )


def _unusable(files: InputFiles, scan: ScanResult) -> tuple[tuple[str, str], ...]:
    skipped = ((files.name_of(path), reason) for path, reason in scan.skipped)
    return (*files.skipped, *skipped)
