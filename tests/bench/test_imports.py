"""The benchmarks import what they use: nothing else would notice a name that moved."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if path.name != "fuzz.py")  # atheris


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_imports(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(BENCH), *sys.path])  # as a script has it
    assert "main" in runpy.run_path(str(BENCH / script), run_name="imported")
