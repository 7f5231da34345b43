"""Soaks a node: realistic senders, an unreliable destination, and kill -9.

The first part counts at the destination what is lost, incomplete or duplicate: each series must
have one SEG and one SR of all its images. The second part measures resident memory over many series
without kills and faults. Phantoms and networks are tiny (tests/support/tiny_node.py); the rest is
the real node. The same seed sends the same series in the same way.

    python bench/soak.py --series 1000 --kill-every 10 --memory-series 500 --report soak.md
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from moody_pacs import MoodyPacs
from node_process import ENDED
from soak_judge import Sent, Span, judge, longest_silence
from soak_senders import REVISED, Manner, Sending
from tiny_node import TinyNode, tiny_thorax, write_models

_PATIENCE = 1800.0
_OPEN = f"SELECT count(*) FROM jobs WHERE state NOT IN {ENDED}"  # noqa: S608 - constants
_UNHAPPY = (
    "SELECT DISTINCT series_uid FROM jobs JOIN job_events ON job_id = jobs.id "
    "WHERE after IN ('rejected', 'failed')"
)
_GROWTH_MB = 64
_QUIET_SECONDS = 3.0
_UNSURE_SECONDS = 0.5
"""The longest time between the start of listening and its detection."""


def settle(node: TinyNode) -> None:
    """Wait until no job is in progress."""
    end = time.monotonic() + _PATIENCE
    while node.rows(_OPEN) != [(0,)] and time.monotonic() < end:
        time.sleep(0.5)


def killed(node: TinyNode, sending: Sending, every: float, chance: random.Random) -> list[Span]:
    """Kill the node repeatedly until every series is sent; return the times when it listened."""
    up: list[Span] = []
    ended = False
    while not ended:
        node.start()
        began = datetime.now(UTC)
        ended = sending.wait(chance.uniform(0.2, 2 * every))
        if not ended:
            node.kill()
        up.append((began, datetime.now(UTC)))
    settle(node)
    return up


def resident_mb(node: TinyNode) -> float:
    """Return the resident memory of the receiving process."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def watched(node: TinyNode, sending: Sending) -> list[float]:
    """Return the resident memory after every ten series, from the fiftieth on."""
    seen: list[float] = []
    sending.start(1)
    while not sending.wait(0.2):
        if len(sending.series) >= 50 + 10 * len(seen):
            seen.append(resident_mb(node))
    settle(node)
    return [*seen, resident_mb(node)]


def paused(node: TinyNode, sending: Sending, up: list[Span]) -> frozenset[str]:
    """Return the series that were silent for the quiet time before they were complete.

    The node may take such a part for the whole series: the machine was too slow for the test.
    """
    sql = "SELECT received_at FROM instances WHERE series_uid = ?"
    return frozenset(
        one.uid
        for one in sending.series
        if longest_silence([datetime.fromisoformat(at) for (at,) in node.rows(sql, one.uid)], up)
        > node.quiet_seconds - _UNSURE_SECONDS
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakCounts:
    """The counts: all of ``bad`` must be 0; ``wrong`` names the series."""

    bad: dict[str, int]
    other: dict[str, int]
    wrong: tuple[str, ...]

    def rows(self, kills: int) -> list[str]:
        """Return the head and the first rows of the table of the report."""
        figures = {"kill -9": kills} | self.other | self.bad
        head = ["| Figure | Value |", "|---|---:|"]
        return [*head, *(f"| {name} | {value} |" for name, value in figures.items())]


def count_errors(node: TinyNode, pacs: MoodyPacs, sending: Sending, up: list[Span]) -> SoakCounts:
    """Count the errors."""
    rows = node.rows("SELECT sop_instance_uid, path FROM instances")
    slow = paused(node, sending, up)
    sent = [
        Sent(uid=one.uid, images=one.images, revised=one.manner in REVISED or one.uid in slow)
        for one in sending.series
    ]
    verdict = judge(sent, list(pacs.kept.values()))
    acknowledged = {uid for one in sending.series for uid in one.images}
    missing = [path for _, path in rows if not (node.state.parent / path).exists()]
    manners = Counter(one.manner for one in sending.series)
    unhappy = {uid for (uid,) in node.rows(_UNHAPPY)} - slow
    return SoakCounts(
        bad={
            "acknowledged instances lost": len(acknowledged - {uid for uid, _ in rows})
            + len(missing),
            "result objects lost": verdict.lost,
            "result objects of half a series": verdict.half,
            "result objects double": verdict.double,
            "result objects sent again with other content": len(pacs.changed),
            "series that were not sent whole": sending.count - len(sending.series),
            "series rejected or failed": len(unhappy),
        },
        other={
            "series": len(sending.series),
            **{f"of them {manner.value}": count for manner, count in manners.items()},
            "of them paused for longer than the quiet time": len(slow),
            **{f"the destination: {what}": count for what, count in sorted(pacs.faults.items())},
            "acknowledged instances": len(acknowledged),
            "result objects that those of a later revision replace": verdict.replaced,
        },
        wrong=(*verdict.series, *unhappy),
    )


def options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--kill-every", type=float, default=10.0)
    parser.add_argument("--memory-series", type=int, default=500)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("soak.md"))
    parser.add_argument(
        "--keep", type=Path, help="directory for log and state file of a failed run"
    )
    return parser.parse_args()


def main() -> int:
    """Run both parts and write the report."""
    chosen = options()
    print(f"seed {chosen.seed}", flush=True)
    thorax = tiny_thorax()
    with tempfile.TemporaryDirectory() as name:
        folder, pacs = Path(name), MoodyPacs(chosen.seed)
        node = TinyNode(
            folder,
            write_models(folder / "models", thorax),
            [pacs.start()],
            quiet_seconds=_QUIET_SECONDS,
            delivery_timeout_seconds=3.0,
        )
        began = time.monotonic()
        moody = Sending(node, thorax, chosen.series, "k", chosen.seed)
        moody.start(chosen.senders)
        up = killed(node, moody, chosen.kill_every, random.Random(chosen.seed))  # noqa: S311
        counts = count_errors(node, pacs, moody, up)
        pacs.calm_down()
        calm = Sending(node, thorax, chosen.memory_series, "m", chosen.seed, manner=Manner.WHOLE)
        memory = watched(node, calm)
        stopped = node.terminate()
        pacs.stop()
        bad = sum(counts.bad.values()) + (stopped != 0)
        if bad and chosen.keep:
            shutil.copytree(folder, chosen.keep, ignore=shutil.ignore_patterns("spool", "in"))
    growth = max(memory) - memory[0]
    bad += growth > _GROWTH_MB
    seconds = time.monotonic() - began
    report = "\n".join(
        [
            f"# Soak of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {'failed' if bad else 'passed'}",
            "",
            f"`python bench/soak.py {' '.join(sys.argv[1:])}`, seed {chosen.seed}, {seconds:.0f} s",
            "",
            *counts.rows(kills=len(up) - 1),
            f"| series without a kill or a fault | {len(calm.series)} |",
            f"| resident memory after 50 of them, MB | {memory[0]:.1f} |",
            f"| largest growth since then, MB | {growth:.1f} |",
            f"| exit status after SIGTERM | {stopped} |",
            *(f"\nwrong: {uid}" for uid in counts.wrong),
        ]
    )
    chosen.report.write_text(report + "\n", encoding="utf-8")
    print(report)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
