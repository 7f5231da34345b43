"""The health check of the containers: ``rales echo`` must fail when the node does not answer."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification


def health(port: int, folder: Path) -> int:
    config = folder / "rales.toml"
    config.write_text(f'[node]\nhost = "127.0.0.1"\nport = {port}\ndata_dir = "{folder}"\n')
    command = [sys.executable, "-m", "rales", "echo", "--config", config]
    return subprocess.run(command, check=False, capture_output=True).returncode


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that is taken but that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def test_fails_when_nothing_listens(silent_port: int, tmp_path: Path) -> None:
    assert health(silent_port, tmp_path) == 1


@pytest.mark.parametrize(("title", "status"), [("RALES", 0), ("OTHER", 1)])
def test_succeeds_only_when_this_node_answers(title: str, status: int, tmp_path: Path) -> None:
    node = AE(ae_title=title)
    node.require_called_aet = True
    node.add_supported_context(Verification)
    server = node.start_server(("127.0.0.1", 0), block=False)
    try:
        assert health(server.server_address[1], tmp_path) == status
    finally:
        associations = server.active_associations
        node.shutdown()
        for association in associations:
            association.join(10)
