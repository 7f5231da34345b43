"""Paths inside the data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The files and folders of one node.

    The state file names files by their path relative to ``data_dir``: the directory may be moved,
    restored elsewhere or reached through a link.
    """

    data_dir: Path

    @property
    def state(self) -> Path:
        """The state file (SQLite)."""
        return self.data_dir / "state.sqlite"

    @property
    def spool(self) -> Path:
        """The received instances."""
        return self.data_dir / "spool"

    @property
    def results(self) -> Path:
        """One folder per analysed job."""
        return self.data_dir / "results"

    @property
    def quarantine(self) -> Path:
        """Spool files that `rales fsck` set aside."""
        return self.data_dir / "quarantine"

    @property
    def lock(self) -> Path:
        """The file that the running node locks."""
        return self.data_dir / "node.lock"
