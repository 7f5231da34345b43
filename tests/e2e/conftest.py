"""A real node, a real PACS, real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dicom_out.network.destination import Destination
from rales.demo.pacs import Pacs, answers, free_port, start_pacs

_DEADLINE = 240.0
ENDED = {"done", "rejected", "failed", "superseded"}


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    """Return the first answer that is neither None nor False."""
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        answer = look()
        if answer:
            return answer
        time.sleep(0.1)
    pytest.fail(f"waited {_DEADLINE:.0f} s for {what}")


@dataclass
class NodeProcess:
    """``rales serve`` as a process of its own, which can be killed and started again."""

    folder: Path
    destination: tuple[str, int]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "rales.toml"

    def write_config(self) -> None:
        title, port = self.destination
        self.config.write_text(
            f'[node]\nae_title = "RALES"\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'[[destinations]]\nname = "pacs"\nae_title = "{title}"\n'
            f'host = "127.0.0.1"\nport = {port}\n'
            "[completion]\nsettle_seconds = 0.5\nquiet_seconds = 5.0\n"
            "[delivery]\nfirst_retry_seconds = 0.5\nlongest_retry_seconds = 1.0\n"
        )

    def start(self) -> None:
        with (self.folder / "rales.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rales", "serve", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        itself = Destination(name="node", ae_title="RALES", host="127.0.0.1", port=self.port)
        wait_for(f"the node:\n{self.log()}", lambda: self._alive() and answers(itself))

    def _alive(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return True

    def log(self) -> str:
        path = self.folder / "rales.log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        """End the node and its analysis process as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def send(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Send every file of a folder with dcmtk's storescu."""
        command = ["storescu", "-aec", "RALES", "-aet", "CT1", "+sd", "+r"]
        return subprocess.run(
            [*command, "127.0.0.1", str(self.port), str(folder)],
            env=os.environ | {"TCP_NODELAY": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def status(self) -> dict[str, Any]:
        """Return what ``rales status --json`` says."""
        command = [sys.executable, "-m", "rales", "status", "--config", str(self.config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def ended(self, series_uid: str) -> dict[str, Any]:
        """Wait until the newest revision of a series has come to its end; return it."""

        def look() -> dict[str, Any] | None:
            mine = [one for one in self.status()["series"] if one["series_uid"] == series_uid]
            return mine[-1] if mine and mine[-1]["state"] in ENDED else None

        found: dict[str, Any] = wait_for(f"series {series_uid}:\n{self.log()}", look)
        return found


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with start_pacs(tmp_path_factory.mktemp("pacs") / "pacs", "RALES") as running:
        yield running


@pytest.fixture(scope="module")
def node(pacs: Pacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    address = (pacs.destination.ae_title, pacs.destination.port)
    running = NodeProcess(tmp_path_factory.mktemp("node"), address)
    running.write_config()
    running.start()
    yield running
    running.stop()
