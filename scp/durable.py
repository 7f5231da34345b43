"""Makes files and their names durable.

POSIX promises only that fsync makes the content of a file durable; its name needs an fsync of the
folder. ext4 with a journal (the default) and XFS promise more. They log the creation or the rename
of a file in the transaction that changes its inode, and write their log in order. So an fsync of
the file also writes its last rename, and the creation of its folder before it. Every other file
system gets the fsync of the folder too.
"""

from __future__ import annotations

import os
from pathlib import Path

_KEEPING = frozenset({"ext4", "xfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def fsync_keeps_names(folder: Path) -> bool:
    """Return whether the fsync of a file in ``folder`` also makes its name durable.

    Raises:
        OSError: The folder cannot be examined.
    """
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return False
    # proc(5): ID, parent, device, root, mount point, options, tags; then "-", type, source, options
    kinds = {
        kind.split()[0]
        for mount, dash, kind in (line.partition(" - ") for line in mounts)
        if dash and mount.split()[2] == number
    }
    return bool(kinds) and kinds <= _KEEPING


def sync_file(file: Path) -> None:
    """Make the content of a file durable."""
    _sync(file, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
