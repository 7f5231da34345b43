"""Fuzzes a parser for as long as one likes (needs atheris, which ``rales[dev]`` brings).

    .venv/bin/python bench/fuzz.py receiver -max_total_time=3600

Targets are those of tests/support/fuzz_targets.py. It starts from tests/corpus/<target>, which it
does not change; an input that raises anything but the promised errors is written to the working
folder as ``crash-*``. Keep it: move it to tests/corpus/<target>, where ``make test`` runs it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

_TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(_TESTS / "support"))

with atheris.instrument_imports(include=["scp", "inference", "chestct", "pydicom"]):
    from fuzz_targets import CORPUS, TARGETS


def main() -> None:
    if not set(sys.argv[1:2]) & set(TARGETS):
        raise SystemExit(f"usage: fuzz.py {{{','.join(TARGETS)}}} [libFuzzer options]")
    target = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="rales-fuzz-") as found:
        atheris.Setup([sys.argv[0], *sys.argv[2:], found, str(CORPUS / target)], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
