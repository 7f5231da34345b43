"""What the deployment's tests share: the real Orthanc under the configuration that ships."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from waiting import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
_PLUGINS = Path("/usr/share/orthanc/plugins")


@dataclass(slots=True, kw_only=True)
class Orthanc:
    """A running Orthanc; ``read`` is how much of its log no longer interests."""

    dicom_port: int
    http_port: int
    log: Path
    read: int = 0

    def get(self, path: str) -> Any:
        """Return the parsed JSON under ``path`` of the REST API."""
        return json.loads(self.request(path))

    def request(self, path: str, body: bytes | None = None) -> bytes:
        """Return the answer's body; with ``body`` it is a POST."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, data=body, timeout=10) as answer:
            content: bytes = answer.read()
        return content

    def said(self) -> str:
        """Return what the routing script has logged since the last :meth:`forget`."""
        lines = self.log.read_text()[self.read :].splitlines()
        return "\n".join(line for line in lines if "route-to-rales" in line)

    def forget(self) -> None:
        """Let :meth:`said` begin here."""
        self.read = len(self.log.read_text())

    def is_up(self) -> bool:
        """Tell whether the REST API answers."""
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False


@pytest.fixture(scope="module")
def start_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Orthanc]]:
    """Start Orthanc as compose.yaml does, with RALES at the given port of this machine."""
    binary = shutil.which("Orthanc")
    if binary is None:
        pytest.skip("Orthanc is not installed")
    tmp_path = tmp_path_factory.mktemp("orthanc")
    running: list[subprocess.Popen[bytes]] = []

    def start(rales_port: int) -> Orthanc:
        settings = json.loads((DEPLOY / "compose/orthanc.json").read_text())
        settings["DicomModalities"]["rales"] |= {"Host": "127.0.0.1", "Port": rales_port}
        settings |= {
            "DicomPort": free_port(),
            "HttpPort": free_port(),
            "RemoteAccessAllowed": False,
            "StorageDirectory": str(tmp_path / "storage"),
            "IndexDirectory": str(tmp_path / "storage"),
            "Plugins": [str(_PLUGINS / "libOrthancDicomWeb.so")],
            "LuaScripts": [str(DEPLOY / "orthanc/route-to-rales.lua")],
            "StableAge": 1,
            "ExecuteLuaEnabled": True,
        }
        config = tmp_path / "orthanc.json"
        config.write_text(json.dumps(settings))
        log = tmp_path / "orthanc.log"
        with log.open("wb") as sink:
            running.append(subprocess.Popen([binary, str(config)], stdout=sink, stderr=sink))
        orthanc = Orthanc(dicom_port=settings["DicomPort"], http_port=settings["HttpPort"], log=log)
        wait_for(f"Orthanc, which says:\n{log.read_text()}", orthanc.is_up)
        return orthanc

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=30)
