"""Records images that are on disk but not in the state file.

The state file was lost, or an older one replaced it. Each image is recorded as if it had been
received when its file was written: its series waits the quiet time and is analysed, and its results
are delivered. Results keep their UIDs, so a destination that has them gets no second ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from chestct.errors import NotDicom
from rales.node.fsck import Fault, survey
from rales.runtime import files
from rales.state.layout import Layout
from rales.state.store import Database, InstanceStore
from scp.spool import folder_of, holds
from scp.stored import read_back

SENDER = "(rebuilt)"
"""Stands for the calling AE title, which no file names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One file, and why it was not recorded; empty: it was."""

    path: Path
    trouble: str = ""


def rebuild(database: Database, layout: Layout) -> Iterator[Taken]:
    """Record every image of the spool that no row names, and the whole images in quarantine.

    Raises:
        OutOfResources: The state file cannot be written; the images so far stay recorded.
    """
    store = InstanceStore(database, on_change=lambda: None)
    for findings in survey(database, layout.spool):
        unknown = [finding.path for finding in findings if finding.fault is Fault.ORPHAN]
        # Of two contents under one UID the later one counts, as it did when they arrived.
        for path in sorted(unknown, key=lambda path: path.stat().st_mtime):
            yield take_in(store, path)
    for path in sorted(layout.quarantine.glob("*.dcm")):
        yield _take_back(store, path, layout.spool)


def take_in(store: InstanceStore, path: Path) -> Taken:
    """Record the image in a file of the spool.

    Raises:
        OutOfResources: The state file cannot be written.
    """
    return _attempt(path, lambda: store.record(read_back(path, calling_ae=SENDER)))


def _take_back(store: InstanceStore, path: Path, spool: Path) -> Taken:
    def move_and_record() -> None:
        instance = read_back(path, calling_ae=SENDER)
        if store.is_released(instance):
            raise NotDicom("retention released this image: it stays in quarantine")
        place = spool / folder_of(instance.series_uid) / f"{instance.content_digest}.dcm"
        if not holds(place, instance.content_digest):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.move(path, place)
            files.sync_folder(spool)
        store.record(replace(instance, path=place))

    return _attempt(path, move_and_record)


def _attempt(path: Path, step: Callable[[], object]) -> Taken:
    try:
        step()
    except (NotDicom, OSError) as error:
        return Taken(path=path, trouble=str(error))
    return Taken(path=path)
