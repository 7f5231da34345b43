"""``rales serve`` as a process of its own, which a test can kill, restart and look into."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_port
from waiting import DEADLINE, wait_for

from dicom_out.network.destination import Destination
from rales.demo.pacs import answers

ENDED = ("done", "rejected", "failed", "superseded")


@dataclass
class NodeProcess:
    """A node whose configuration and data lie in ``folder``; a subclass says what it is."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict, kw_only=True)
    port: int = field(default_factory=free_port, kw_only=True)
    process: subprocess.Popen[bytes] | None = field(default=None, kw_only=True)

    def configuration(self) -> str:
        """Return what follows the keys of ``[node]`` that every node of the tests has."""
        raise NotImplementedError

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "rales.toml"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def state(self) -> Path:
        """The state file."""
        return self.data / "state.sqlite"

    def write_config(self) -> Path:
        """Write the configuration file; return its path."""
        self.config.write_text(
            f'[node]\nae_title = "RALES"\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'data_dir = "data"\n{self.configuration()}'
        )
        return self.config

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-m", "rales", "serve", "--config", str(self.write_config())]

    def launch(self) -> None:
        """Start it and do not wait."""
        with (self.folder / "rales.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | self.environment,
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        itself = Destination(name="node", ae_title="RALES", host="127.0.0.1", port=self.port)
        self.wait_for("the node to answer", lambda: answers(itself))

    def wait_for(self, what: str, condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
        """Wait as :func:`waiting.wait_for` does, but no longer than the node runs."""

        def running() -> Any:
            answer = condition()
            assert answer or self.process is None or self.process.poll() is None, self.log()
            return answer

        return wait_for(what, running, seconds)

    def log(self) -> str:
        """Return what it logged."""
        path = self.folder / "rales.log"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """Kill the node alone, as the OOM killer does; its analysis process must follow."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE)

    def cut_power(self) -> None:
        """Kill the node and its analysis process at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)

    def terminate(self) -> int:
        """End it with SIGTERM; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def end(self) -> None:
        """Kill what a failed test left running."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the state file, while the node runs or not."""
        if not self.state.exists():
            return []
        with sqlite3.connect(f"file:{self.state}?mode=ro", uri=True, timeout=20) as connection:
            rows = connection.execute(sql, parameters).fetchall()
        connection.close()
        return rows

    def jobs(self, series_uid: str) -> list[tuple[str, str]]:
        """Return (state, reason) of each revision of a series."""
        sql = "SELECT state, reason FROM jobs WHERE series_uid = ? ORDER BY revision"
        return [(row[0], row[1]) for row in self.rows(sql, series_uid)]

    def ended(self, series_uid: str, seconds: float = DEADLINE) -> str:
        """Wait until every revision of a series has ended; return the state of the newest."""

        def look() -> str | None:
            states = [state for state, _ in self.jobs(series_uid)]
            return states[-1] if states and all(state in ENDED for state in states) else None

        state: str = wait_for(f"the end of {series_uid}", look, seconds)
        return state

    def status(self, *options: str) -> str:
        """Return what ``rales status`` prints: a process of its own, so do not poll it."""
        command = [sys.executable, "-m", "rales", "status", "--config", str(self.config)]
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def shown(self) -> list[dict[str, Any]]:
        """Return the series that ``rales status --json`` shows."""
        series: list[dict[str, Any]] = json.loads(self.status("--json"))["series"]
        return series
