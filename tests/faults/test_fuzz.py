"""Bytes that nobody thought of: only the promised errors may come out of the parsers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fuzz_targets
import hostile_datasets
import pytest
from fuzz_targets import CORPUS, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_ROOT = Path(__file__).parents[2]
_SLICES = [one.content or b"" for one in hostile_datasets.attacks() if len(one.payload) < 4000]
_QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def kept() -> list[Path]:
    """Return every input that once broke something, and some seeds."""
    return sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", kept(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_a_parser_does_so_no_more(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_a_corpus_is_kept_for_each_target() -> None:
    assert {path.parent.name for path in kept()} == set(TARGETS)


@_QUICK
@given(
    st.sampled_from(_SLICES),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), max_size=6),
)
def test_spliced_data_sets_are_refused_or_read(
    content: bytes, syntax: int, splices: list[tuple[int, bytes]]
) -> None:
    damaged = bytearray(content)
    for place, value in splices:
        damaged[place : place + len(value)] = value
    fuzz_targets.receiver(bytes([syntax]) + bytes(damaged))


@_QUICK
@given(st.lists(st.floats(), max_size=12), st.binary(max_size=1))
def test_any_positions_and_times_make_a_decision(numbers: list[float], end: bytes) -> None:
    fuzz_targets.assembler(fuzz_targets.packed(numbers) + end)


@_QUICK
@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 1600), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_file_is_refused_or_read(syntax: int, changes: list[tuple[int, int]]) -> None:
    data = bytes([syntax]) + b"".join(
        place.to_bytes(2, "little") + bytes([value]) for place, value in changes
    )
    fuzz_targets.loader(data)


_FEW_RUNS = ("-runs=100", "-seed=1", "-rss_limit_mb=0")
"""Linux takes the peak memory of a parent over to its child: after larger tests in the same worker
libFuzzer would count that against its limit."""


@pytest.mark.parametrize("target", TARGETS)
def test_the_harness_for_long_runs_works(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    run = subprocess.run(
        [sys.executable, _ROOT / "bench" / "fuzz.py", target, *_FEW_RUNS],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,  # libFuzzer leaves crashers where it runs
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Done 100 runs" in run.stderr
