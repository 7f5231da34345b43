"""Fetches the built OHIF viewer: the directory ``dist`` of the npm package ``@ohif/app``."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from rales.demo.pacs import DemoFailed

VERSION = "3.13.2"
_SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""The registry's ``dist.integrity`` of that version."""


def ohif_dist(folder: Path) -> Path:
    """Return the built viewer under ``folder``; fetch it with npm (50 MB) if it is missing.

    No code of the package runs. Its dependencies are built in and are not fetched.

    Raises:
        DemoFailed: npm is missing or cannot fetch the package, or its digest is not the pinned one.
    """
    dist = folder / f"ohif-{VERSION}"
    if (dist / "index.html").is_file():
        return dist
    npm = shutil.which("npm")
    if npm is None:
        raise DemoFailed(
            f"the OHIF viewer is not in {dist} and npm is not installed; on Debian: "
            f"apt-get install npm, or unpack dist/ of the npm package @ohif/app {VERSION} there"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="fetching-", dir=folder) as name:
        unpacked = Path(name)
        archive = _fetch(npm, unpacked)
        _unpack(archive, unpacked)
        (unpacked / "package" / "dist").rename(dist)
    return dist


def _fetch(npm: str, folder: Path) -> Path:
    command = [npm, "pack", "--silent", f"@ohif/app@{VERSION}"]
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise DemoFailed(
            f"'{' '.join(command)}' failed: is the npm registry within reach?\n{done.stderr}"
        )
    digest = digest_of(archives[0])
    if digest != _SHA512:
        raise DemoFailed(f"{archives[0].name} has SHA-512 {digest}, not the pinned {_SHA512}")
    return archives[0]


def digest_of(archive: Path) -> str:
    """Return the SHA-512 of a file in base64, as npm's registry writes it."""
    return base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the viewer without its source maps, which are a fifth of the package."""
    with tarfile.open(archive) as tar:
        wanted = [
            member
            for member in tar
            if member.name.startswith("package/dist/") and not member.name.endswith(".map")
        ]
        tar.extractall(folder, wanted, filter="data")
