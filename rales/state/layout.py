"""Where the node keeps what below its data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The files and folders of one node.

    The state file names files by their place below ``data_dir``, so that the folder may be
    moved, restored elsewhere or reached through a link.
    """

    data_dir: Path

    @property
    def state(self) -> Path:
        """The SQLite file."""
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
        """Files that are not what the state file says."""
        return self.data_dir / "quarantine"

    @property
    def lock(self) -> Path:
        """Locked by the running node."""
        return self.data_dir / "node.lock"
