"""Open the data directory and the state file that a configuration file names."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chestct.errors import ConfigError
from rales.config import file as config
from rales.state.layout import Layout
from rales.state.store import Database


def layout_of(config_path: Path) -> Layout:
    """Return the paths inside the data directory of the configured node."""
    return Layout(config.load(config_path).node.data_dir)


def open_state(layout: Layout) -> Database:
    """Open the state file; the node may be running.

    Raises:
        ConfigError: There is no state file.
    """
    if not layout.state.exists():
        raise ConfigError(
            f"{layout.state} does not exist yet: has the node run? "
            "Start it with `rales serve`, or correct node.data_dir"
        )
    return Database(layout.state)


@contextmanager
def stopped(layout: Layout) -> Iterator[None]:
    """Hold the lock of the data directory, so that the node cannot run meanwhile.

    Raises:
        ConfigError: The node is running, or the data directory cannot be used.
    """
    try:
        layout.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = layout.lock.open("a")
    except OSError as error:
        raise ConfigError(f"{layout.data_dir} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"the node is running on {layout.data_dir}: stop it first") from error
        yield
