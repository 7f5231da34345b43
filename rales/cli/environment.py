"""What the environment must look like before the node starts."""

from __future__ import annotations

import os
from importlib.metadata import packages_distributions

from chestct.errors import ConfigError

_PACKAGES = ("chestct", "scp", "inference", "dicom_out", "rales")


def refuse_shadowed_packages() -> None:
    """Refuse to start where another distribution owns one of our package names.

    ``scp`` and ``inference`` exist on the public index too; two owners of one name means
    that some of our modules may be theirs.

    Raises:
        ConfigError: With the names of both and the remedy.
    """
    owners = packages_distributions()
    for package in _PACKAGES:
        others = sorted({name for name in owners.get(package, []) if name != "rales"})
        if others:
            raise ConfigError(
                f"the package {package!r} also belongs to {', '.join(others)}, which is installed "
                "in this environment. Install Rales in an environment of its own: "
                "python3 -m venv /opt/rales && /opt/rales/bin/pip install rales"
            )


def free_bytes(folder: os.PathLike[str]) -> int:
    """Return the bytes that an ordinary user can still write under ``folder``."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
