"""Measures the memory and processor time that hostile inputs cost a node, during and after.

Sends each kind of tests/support/hostile_amplifiers.py to a real node several times in a row. Then
many connections stop in the middle of a large object at the same time. The run has no other
receiver to compare with: dcmtk's storescp aborts at the first of these inputs.

    python bench/amplify.py [--times 15] [--arenas N]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from hostile import Attack, Fate, Wire, command_set, message, p_data, store_command
from hostile_amplifiers import KINDS
from tiny_node import TinyNode, tiny_thorax, write_models

_ANSWER_SECONDS = 60.0
_SETTLE_SECONDS = 15.0
_MEGABYTE = 1 << 20
_PART = 1 << 16
_CROWDS = ((96, 8), (12, 64))
"""Number of connections, and the MB of an object that each sends before it stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one step: peak and final MB above the start, and seconds."""

    name: str
    peak: float
    left: float
    seconds: float

    def line(self) -> str:
        """Return a row of the table."""
        return f"| {self.name} | {self.peak:.0f} | {self.left:.0f} | {self.seconds:.1f} |"


class Meter:
    """Reads memory and time of a process from /proc."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._tick = os.sysconf("SC_CLK_TCK")

    def megabytes(self, field: str = "VmRSS") -> float:
        """Return a field of /proc/PID/status in MB."""
        status = (self._folder / "status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(field)]
        return int(line.split()[1]) / 1024

    def seconds(self) -> float:
        """Return the processor time so far."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / self._tick

    def measure(self, name: str, step: Callable[[], None]) -> Cost:
        """Run a step; return its cost."""
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        memory, spent = self.megabytes(), self.seconds()
        step()
        time.sleep(0.3)
        return Cost(
            name=name,
            peak=self.megabytes("VmHWM") - memory,
            left=self.megabytes() - memory,
            seconds=self.seconds() - spent,
        )


def strike(port: int, attack: Attack) -> None:
    """Send one input and wait for the answer or the end of the connection."""
    with suppress(OSError, AssertionError), Wire(port, seconds=_ANSWER_SECONDS) as wire:
        if attack.established:
            wire.establish()
        wire.send(attack.payload)
        if attack.fate is Fate.SURVIVED:
            wire.hurry()
            while wire.read()[0] not in {0, 7}:
                pass
        elif wire.status() is not None:
            wire.release()


def crowd(port: int, count: int, megabytes: int) -> None:
    """Stop all connections in the middle of an object at once, then close them."""
    start = message(command_set(store_command(instance=b"1.2.3")), None)
    part = p_data(bytes(_PART), control=0)
    with ExitStack() as stack:
        for _ in range(count):
            wire = stack.enter_context(Wire(port, seconds=_ANSWER_SECONDS))
            with suppress(OSError, AssertionError):
                wire.establish()
                wire.send(start + part * (megabytes * _MEGABYTE // _PART))
        time.sleep(2)  # for what is still in the sockets


def assail(port: int, pid: int, times: int) -> list[Cost]:
    """Send every input and return the costs; the last cost is the total."""
    meter = Meter(pid)
    before, spent, costs, peak = meter.megabytes(), meter.seconds(), [], 0.0
    for name, make in KINDS.items():
        attack = make()

        def several(attack: Attack = attack) -> None:
            for _ in range(times):
                strike(port, attack)

        costs.append(_said(meter.measure(f"{times} x {name}", several)))
        peak = max(peak, meter.megabytes("VmHWM"))
    for count, megabytes in _CROWDS:
        name = f"{count} connections in the middle of an object, {megabytes} MB each"

        def gather(count: int = count, megabytes: int = megabytes) -> None:
            crowd(port, count, megabytes)

        costs.append(_said(meter.measure(name, gather)))
        peak = max(peak, meter.megabytes("VmHWM"))
    time.sleep(_SETTLE_SECONDS)
    inputs = times * len(KINDS) + len(_CROWDS)
    whole = Cost(
        name=f"all {inputs} in a row, left {_SETTLE_SECONDS:.0f} s later",
        peak=peak - before,
        left=meter.megabytes() - before,
        seconds=meter.seconds() - spent,
    )
    return [*costs, _said(whole)]


def _said(cost: Cost) -> Cost:
    print(cost.line(), flush=True)
    return cost


def main() -> int:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15, help="inputs of each kind")
    parser.add_argument("--arenas", type=int, default=0, help="MALLOC_ARENA_MAX of the node")
    asked = parser.parse_args()
    head = "| {} | peak MB | left MB | CPU s |\n|---|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node").mkdir()
        node = TinyNode(folder / "node", write_models(folder / "models", tiny_thorax()), [])
        if asked.arenas:
            node.environment["MALLOC_ARENA_MAX"] = str(asked.arenas)
        node.start()
        assert node.process is not None
        print(head.format(f"Rales, {Meter(node.process.pid).megabytes():.0f} MB before"))
        try:
            assail(node.port, node.process.pid, asked.times)
            alive = node.process.poll() is None
        finally:
            node.end()
    return int(not alive)


if __name__ == "__main__":
    sys.exit(main())
