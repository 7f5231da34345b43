"""Measures the time of a C-ECHO right after each hostile input, and whether a peer survives them.

Sends every input of the corpus (tests/support/hostile_*.py) to a real node, each followed by a
timed C-ECHO. If dcmtk's storescp is installed, it receives the same inputs in the same run, and is
started again after each crash.

    python bench/siege.py [--slowest 10] [--peer-every 10]

storescp receives only every tenth input: it serves one association at a time and waits for silent
peers, which takes long.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import hostile_datasets
import hostile_messages
import hostile_pdus
from hostile import Attack, Wire, echo
from rich.console import Console
from rich.progress import track
from tiny_node import StoringPacs, TinyNode, tiny_thorax, write_models
from waiting import wait_for

from rales.demo.pacs import free_port

_ATTACKS = [*hostile_pdus.attacks(), *hostile_messages.attacks(), *hostile_datasets.attacks()]
_ECHO_SECONDS = 3.0
_ANSWER_SECONDS = 2.0


@dataclass
class SiegeResult:
    """The result of one receiver: seconds of each C-ECHO, and the inputs without an answer."""

    seconds: dict[str, float] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Return a row of the table."""
        taken = sorted(self.seconds.values())
        middle, late = statistics.median(taken), taken[int(0.99 * len(taken))]
        return (
            f"| {name} | {len(taken)} | {middle * 1e3:.1f} | {late * 1e3:.1f} | "
            f"{taken[-1] * 1e3:.1f} | {sum(one > 1 for one in taken)} | {len(self.unanswered)} |"
        )


def besiege(
    name: str,
    attacks: Sequence[Attack],
    port: int,
    alive: Callable[[], bool],
    revive: Callable[[], None],
) -> SiegeResult:
    """Send every input to ``port``, each followed by a C-ECHO.

    Notes inputs after which the receiver leaves the C-ECHO unanswered; restarts it if it died.
    """
    outcome = SiegeResult()
    for attack in track(attacks, description=name, console=Console(stderr=True)):
        with suppress(OSError, AssertionError):  # only the C-ECHO below counts
            strike(port, attack)
        try:
            outcome.seconds[attack.name] = echo(port, seconds=_ECHO_SECONDS)
        except (OSError, AssertionError):
            outcome.unanswered.append(attack.name)
        if not alive():
            revive()
    return outcome


def strike(port: int, attack: Attack) -> None:
    """Send one input, wait for an answer, and close the connection."""
    with Wire(port, seconds=_ANSWER_SECONDS) as wire:
        if attack.established:
            wire.establish()
        wire.send(attack.payload)
        wire.hurry()
        wire.read()


class Storescp:
    """dcmtk's storage SCP, one process for all associations (its default)."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = 0
        self.starts = 0
        self._command = [program, "-od", str(folder), "--accept-all"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.starts += 1
        self.port = self.port or free_port()
        self._process = subprocess.Popen(
            [*self._command, str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_for("storescp to answer", self._answers)

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None
        if not self.alive():
            raise RuntimeError(f"storescp ended: {self._process.communicate()[1]!r}")
        with suppress(OSError, AssertionError):
            return echo(self.port, seconds=_ECHO_SECONDS) > 0
        return False


def besiege_node(folder: Path) -> tuple[SiegeResult, bool]:
    """Besiege a node; return the result, and whether its process survived."""
    pacs = StoringPacs()
    (folder / "node").mkdir()
    models = write_models(folder / "models", tiny_thorax())
    node = TinyNode(folder / "node", models, [pacs.start()])
    node.start()
    process = node.process
    assert process is not None
    result = besiege("Rales", _ATTACKS, node.port, lambda: process.poll() is None, node.start)
    survived = node.process is process and process.poll() is None
    node.kill()
    pacs.stop()
    return result, survived


def besiege_storescp(folder: Path, every: int) -> str | None:
    """Besiege dcmtk's storescp; return a row of the table, or None if it is not installed."""
    # Not from PATH: pynetdicom installs a storescp too.
    program = shutil.which("storescp", path="/usr/bin:/usr/local/bin")
    if program is None:
        return None
    peer = Storescp(program, folder)
    peer.start()
    result = besiege("storescp", _ATTACKS[::every], peer.port, peer.alive, peer.start)
    peer.stop()
    return result.line(f"storescp, died {peer.starts - 1} times")


def main() -> int:
    """Run the benchmark and print a table; exit with 1 if the node failed an input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--slowest", type=int, default=5, help="how many of the slowest inputs to list"
    )
    parser.add_argument(
        "--peer-every", type=int, default=10, help="send every Nth input to the peer"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result, survived = besiege_node(Path(name))
        peer = besiege_storescp(Path(name), options.peer_every)
    print(f"{len(_ATTACKS)} hostile inputs; the same process of Rales at the end: {survived}\n")
    print("| Receiver | C-ECHO answered | median ms | 99 % ms | longest ms | above 1 s | not |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    print("\n".join(filter(None, [result.line("Rales"), peer])))
    print("\nThe slowest C-ECHO after:")
    slowest = sorted(result.seconds.items(), key=lambda item: -item[1])[: options.slowest]
    print("\n".join(f"  {seconds * 1e3:7.1f} ms  {name}" for name, seconds in slowest))
    late = max(result.seconds.values()) > 1
    return int(bool(result.unanswered or late or not survived))


if __name__ == "__main__":
    sys.exit(main())
