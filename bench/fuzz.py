"""Fuzzes a parser (needs atheris, which ``rales[dev]`` installs).

    .venv/bin/python bench/fuzz.py receiver -max_total_time=3600

The targets are in tests/support/fuzz_targets.py. Fuzzing starts from tests/corpus/<target> and does
not change it. An input that raises an unexpected error is written to the working directory as
``crash-*``. Move it to tests/corpus/<target>, where ``make test`` runs it.
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
