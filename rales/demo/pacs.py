"""The PACS of the demo: Orthanc if it is installed, else pynetdicom's storage SCP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from chestct.errors import RalesError
from chestct.uids import Uid
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.sender import echo

_START_SECONDS = 60.0
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
"""Debian's path of the plug-in that makes the PACS of the demo speak DICOMweb."""

MODALITY = "MODALITY"
"""The AE title that sends the series."""

T = TypeVar("T")


class DemoFailed(RalesError):
    """A step of the demo failed; the message says which step, and where to look."""


class Pacs(Protocol):
    """A running PACS."""

    name: str
    destination: Destination
    url: str
    """The URL of its web interface; empty without a web interface."""

    def fetch(self, sop_instance_uid: Uid) -> bytes | None:
        """Return the Part 10 file of an instance; None if the PACS does not have it."""


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(event: str, poll: Callable[[], T | None], seconds: float) -> T:
    """Return the first result of ``poll`` that is not None.

    Raises:
        DemoFailed: Every result within ``seconds`` was None.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = poll()
        if result is not None:
            return result
        time.sleep(0.1)
    raise DemoFailed(f"waited {seconds:.0f} s in vain for {event}")


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` in the background with its output in ``log``; end it on exit."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(destination: Destination) -> bool | None:
    """Return True if ``destination`` answers a C-ECHO, else None."""
    try:
        socket.create_connection((destination.host, destination.port), timeout=1.0).close()
    except OSError:
        return None
    outcome = echo(destination, calling_ae="DEMO")
    return True if outcome.kind is OutcomeKind.DELIVERED else None


def find_orthanc() -> str | None:
    """Return the path of Orthanc; None if it is not installed.

    Debian installs it in ``/usr/sbin``, which is not on the PATH of normal users.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    beside = [str(Path(folder).parent / "sbin") for folder in folders]
    return shutil.which("Orthanc", path=os.pathsep.join([*folders, *beside]))


def has_dicomweb() -> bool:
    """Return whether Orthanc is installed with the plug-in that a viewer needs."""
    return find_orthanc() is not None and _DICOMWEB.exists()


@contextmanager
def start_pacs(folder: Path, rales_ae: str) -> Iterator[Pacs]:
    """Start the PACS with its data and log in ``folder``."""
    folder.mkdir(parents=True)
    orthanc = find_orthanc()
    port = free_port()
    destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    if orthanc:
        web_port = free_port()
        command = [orthanc, str(_orthanc_config(folder, destination, web_port, rales_ae))]
        pacs: Pacs = _Orthanc(destination, web_port)
    else:
        store = folder / "storage"
        store.mkdir()
        command = [sys.executable, "-m", "pynetdicom", "storescp", str(port)]
        command += ["-aet", destination.ae_title, "-od", str(store)]
        pacs = _StorageScp(destination, store)
    log = folder / "pacs.log"
    with running(command, log):
        wait_for(
            f"{pacs.name} to answer C-ECHO (see {log})",
            lambda: answers(destination),
            _START_SECONDS,
        )
        yield pacs


def _orthanc_config(folder: Path, destination: Destination, web_port: int, rales_ae: str) -> Path:
    """Write a configuration that accepts objects from the demo on this machine only.

    Debian's Orthanc listens on every interface for DICOM, hence the checks of host and AE title.
    """
    config = {
        "Name": "demo PACS",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": destination.ae_title,
        "DicomPort": destination.port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {
            "rales": [rales_ae, "127.0.0.1", 104],
            "modality": [MODALITY, "127.0.0.1", 104],
        },
        "HttpPort": web_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(_DICOMWEB)] if _DICOMWEB.exists() else [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config, indent=2))
    return path


class _Orthanc:
    name = "Orthanc"

    def __init__(self, destination: Destination, web_port: int) -> None:
        self.destination = destination
        self.url = f"http://127.0.0.1:{web_port}"

    def fetch(self, sop_instance_uid: Uid) -> bytes | None:
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        matches = json.loads(self._call("/tools/find", json.dumps(query).encode()))
        return self._call(f"/instances/{matches[0]}/file") if matches else None

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=body)  # noqa: S310 - loopback http
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.URLError as error:
            raise DemoFailed(f"Orthanc did not answer {path}: {error}") from error


class _StorageScp:
    name = "pynetdicom's storage SCP"
    url = ""

    def __init__(self, destination: Destination, store: Path) -> None:
        self.destination = destination
        self._store = store

    def fetch(self, sop_instance_uid: Uid) -> bytes | None:
        for path in self._store.rglob("*"):
            if path.name.endswith(sop_instance_uid):
                return path.read_bytes()
        return None
