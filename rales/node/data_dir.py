"""Takes the data directory for one node alone, and closes it to other users."""

from __future__ import annotations

import fcntl
import logging
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chestct.errors import ConfigError
from rales.state.layout import Layout

_LOG = logging.getLogger(__name__)


@contextmanager
def exclusive_data_dir(layout: Layout) -> Iterator[None]:
    """Create the data directory if needed, and keep every other node out of it.

    Raises:
        ConfigError: The directory cannot be used, or another node uses it.
    """
    folder = layout.data_dir
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _close_to_others(folder)
            lock = stack.enter_context(layout.lock.open("w"))
        except OSError as error:
            raise ConfigError(f"node.data_dir {folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another node is using {folder}: stop it, or set another node.data_dir"
            ) from error
        yield


def _close_to_others(folder: Path) -> None:
    """Remove all access of other users: the directory holds images and names of patients."""
    if not stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return
    try:
        folder.chmod(0o700)
        _LOG.warning("%s was open to other users; its mode is 0700 now", folder)
    except PermissionError:
        _LOG.warning("%s is open to other users and belongs to another user: chmod 700 it", folder)
