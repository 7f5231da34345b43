"""What the Python environment and the disk must provide before the node starts."""

from __future__ import annotations

import os
from importlib.metadata import packages_distributions

from chestct.errors import ConfigError

_PACKAGES = ("chestct", "scp", "inference", "dicom_out", "pynetdicom_guard", "phantom", "rales")


def refuse_shadowed_packages() -> None:
    """Refuse to run when another distribution owns one of our package names.

    PyPI has other distributions that own ``scp`` or ``inference``. If one of them is installed
    too, some of the modules in our packages may be its modules.

    Raises:
        ConfigError: Another distribution owns one of our packages.
    """
    owners = packages_distributions()
    for package in _PACKAGES:
        others = sorted({name for name in owners.get(package, []) if name != "rales"})
        if others:
            raise ConfigError(
                f"the package {package!r} also belongs to {', '.join(others)}, which is installed "
                "in this environment. Install Rales in an environment of its own: "
                "python3 -m venv /opt/rales && /opt/rales/bin/pip install 'rales[cpu]'"
            )


def refuse_two_runtimes() -> None:
    """Refuse to run with two builds of ONNX Runtime, whose files overwrite each other.

    Raises:
        ConfigError: Two are installed.
    """
    owners = sorted(set(packages_distributions().get("onnxruntime", [])))
    if len(owners) > 1:
        raise ConfigError(
            f"{' and '.join(owners)} are both installed, and own one module. Install one of "
            "rales[cpu] and rales[gpu] in a new environment"
        )


def free_bytes(directory: os.PathLike[str]) -> int:
    """Return how many bytes an ordinary user can still write under ``directory``."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
