"""Soak a node: many series, kill -9 every few seconds, then many series without a kill.

The first part counts what was lost or came twice; the second watches resident memory. Both
run on tiny phantoms and networks (tests/support/tiny_node.py); all else is the real node.

    python bench/soak.py --series 1000 --kill-every 4 --memory-series 500 --report soak.md
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from tiny_node import (
    ENDED,
    StoringPacs,
    TinyNode,
    TinySeries,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)

from inference.phantom import Thorax

_PATIENCE = 1800.0
_OPEN = f"SELECT count(*) FROM jobs WHERE state NOT IN {ENDED}"  # noqa: S608 - constants
_GROWTH_MB = 64


class Modality(threading.Thread):
    """Makes and sends one series after another, each until it was taken whole."""

    def __init__(self, node: TinyNode, thorax: Thorax, count: int, prefix: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: set[str] = set()
        self.series: list[TinySeries] = []
        self._node, self._thorax, self._count, self._prefix = node, thorax, count, prefix

    def run(self) -> None:
        """Send them all."""
        for number in range(self._count):
            name = f"{self._prefix}{number:05d}"
            series = write_tiny_series(self._thorax, self._node.folder / "in", name)
            while not send_files(self._node.port, series.files, self.acknowledged):
                time.sleep(0.2)
            self.series.append(series)
            for path in series.files:
                path.unlink()


def settle(node: TinyNode) -> None:
    """Wait until no job is under way."""
    end = time.monotonic() + _PATIENCE
    while node.rows(_OPEN) != [(0,)] and time.monotonic() < end:
        time.sleep(0.5)


def killed(node: TinyNode, modality: Modality, every: float, chance: random.Random) -> int:
    """Kill the node again and again until everything was sent; return how often."""
    kills = 0
    modality.start()
    while modality.is_alive():
        node.start()
        modality.join(chance.uniform(0.2, 2 * every))
        if modality.is_alive():
            node.kill()
            kills += 1
    settle(node)
    return kills


def resident_mb(node: TinyNode) -> float:
    """Return the resident memory of the receiving process."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def watched(node: TinyNode, modality: Modality) -> list[float]:
    """Return resident memory, every ten series after the first fifty."""
    seen: list[float] = []
    modality.start()
    while modality.is_alive():
        modality.join(0.2)
        if len(modality.series) >= 50 + 10 * len(seen):
            seen.append(resident_mb(node))
    settle(node)
    return [*seen, resident_mb(node)]


def judge(node: TinyNode, pacs: StoringPacs, modality: Modality) -> dict[str, int]:
    """Count what was lost and what came twice."""
    kept = {row[0] for row in node.rows("SELECT sop_instance_uid FROM instances")}
    paths = [node.state.parent / row[0] for row in node.rows("SELECT path FROM instances")]
    lost, twice = 0, 0
    counts: dict[str, list[int]] = {one.uid: [0, 0] for one in modality.series}
    for dataset in pacs.datasets.values():
        text = dataset.to_json()
        for uid, count in counts.items():
            if uid in text:
                count[dataset.Modality == "SR"] += 1
                break
    for count in counts.values():
        lost += sum(number == 0 for number in count)
        twice += sum(number > 1 for number in count)
    return {
        "series": len(modality.series),
        "acknowledged instances": len(modality.acknowledged),
        "acknowledged instances lost": len(modality.acknowledged - kept)
        + sum(not path.exists() for path in paths),
        "result objects lost": lost,
        "result objects double": twice,
        "objects that came again with other content": len(pacs.changed),
    }


def main() -> int:
    """Run both parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--kill-every", type=float, default=4.0)
    parser.add_argument("--memory-series", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("soak.md"))
    asked = parser.parse_args()
    thorax = tiny_thorax()
    with tempfile.TemporaryDirectory() as name:
        folder, pacs = Path(name), StoringPacs()
        node = TinyNode(folder, write_models(folder / "models", thorax), [pacs.start()])
        began = time.monotonic()
        modality = Modality(node, thorax, asked.series, "k")
        kills = killed(node, modality, asked.kill_every, random.Random(asked.seed))  # noqa: S311
        figures = judge(node, pacs, modality)
        calm = Modality(node, thorax, asked.memory_series, "m")
        memory = watched(node, calm)
        stopped = node.terminate()
        pacs.stop()
    growth = max(memory) - memory[0]
    bad = (
        sum(value for key, value in figures.items() if "lost" in key or "double" in key)
        + figures["objects that came again with other content"]
        + (stopped != 0)
        + (growth > _GROWTH_MB)
    )
    lines = [
        f"# Soak of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {'failed' if bad else 'passed'}",
        "",
        f"`python bench/soak.py {' '.join(sys.argv[1:])}`, {time.monotonic() - began:.0f} s",
        "",
        "| What | Figure |",
        "|---|---:|",
        f"| kill -9 | {kills} |",
        *(f"| {key} | {value} |" for key, value in figures.items()),
        f"| series without a kill | {len(calm.series)} |",
        f"| resident memory after 50 of them, MB | {memory[0]:.1f} |",
        f"| its growth from there on at the most, MB | {growth:.1f} |",
        f"| exit status after SIGTERM | {stopped} |",
    ]
    asked.report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
