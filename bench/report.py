"""Runs the benchmarks one after the other and prints one report in Markdown.

    python bench/report.py > report.md      # about 15 minutes; nothing else may run

Each table has Rales beside its peers in the same run. Seconds depend on the machine: compare
ratios.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

_HERE = Path(__file__).parent
_PARTS = (
    ("End to end", "end_to_end.py", "--slices", "100", "400", "1600", "--jpeg2000", "--negative"),
    ("Analysis of the sample", "pipeline.py", "--runs", "3"),
    ("Receive", "receive.py", "--slices", "400"),
    ("Load", "loading.py"),
    ("Write", "writing.py"),
    ("Send", "sending.py"),
)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Print the machine, then the output of each benchmark under a heading."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores of {_processor()},")
    print(f"{memory:.0f} GiB, {platform.system()} {platform.release()}, Python", end=" ")
    print(f"{platform.python_version()}; load average at the start {os.getloadavg()[0]:.1f}.")
    for title, script, *options in _PARTS:
        command = [sys.executable, str(_HERE / script), *options]
        print(f"\n## {title}\n\n`python bench/{' '.join([script, *options])}`\n", flush=True)
        subprocess.run(command, check=False, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    main()
