"""The robustness table as it grows: row by row, saved after each, continued after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.robustness.records import ChestRecord, RobustnessRecord, read_record, write_record


class Table:
    """A robustness table; with a ``path`` it is saved after each change."""

    def __init__(self, models: tuple[str, ...], path: Path | None) -> None:
        """Start with the content of the file at ``path``, if it exists.

        Raises:
            ValueError: The file is no robustness table, or is of other models.
        """
        self._path = path
        self.record = RobustnessRecord(models=models, chests=())
        if path is not None and path.exists():
            self.record = read_record(path)
            if self.record.models != models:
                raise ValueError(f"{path} is a table of other models: name another file")

    def chest(self, series_uid: str) -> ChestRecord | None:
        """Return the chest of a series, if the table has it."""
        return next((chest for chest in self.record.chests if chest.series_uid == series_uid), None)

    def put(self, chest: ChestRecord) -> None:
        """Add a chest, or replace it."""
        chests = {known.series_uid: known for known in self.record.chests}
        chests[chest.series_uid] = chest
        self.record = replace(self.record, chests=tuple(chests.values()))
        if self._path is not None:
            write_record(self._path, self.record)
