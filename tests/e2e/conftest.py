"""A real node, a real PACS, real sockets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from node_process import NodeProcess

from rales.demo.pacs import Pacs, start_pacs


@dataclass
class ShippedNode(NodeProcess):
    """A node with the shipped networks, and one destination: (AE title, port)."""

    destination: tuple[str, int]

    def configuration(self) -> str:
        title, port = self.destination
        return (
            f'[[destinations]]\nname = "pacs"\nae_title = "{title}"\n'
            f'host = "127.0.0.1"\nport = {port}\n'
            "[completion]\nsettle_seconds = 0.5\nquiet_seconds = 5.0\n"
            "[delivery]\nfirst_retry_seconds = 0.5\nlongest_retry_seconds = 1.0\n"
            "[analysis]\nthreads = 1\n"
        )

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

    def job(self, series_uid: str) -> dict[str, Any]:
        """Wait for the end of a series; return its newest revision as ``rales status`` shows it."""
        self.ended(series_uid)
        return [one for one in self.shown() if one["series_uid"] == series_uid][-1]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with start_pacs(tmp_path_factory.mktemp("pacs") / "pacs", "RALES") as running:
        yield running


@pytest.fixture(scope="module")
def node(pacs: Pacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedNode]:
    address = (pacs.destination.ae_title, pacs.destination.port)
    running = ShippedNode(tmp_path_factory.mktemp("node"), address)
    running.start()
    yield running
    running.terminate()
