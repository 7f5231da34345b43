"""Text from outside meets no terminal, no log and no markup as it came."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chestct.states import JobState
from dicom_out.outcome import Outcome, OutcomeKind
from rales.cli import cli
from rales.clock import utc_now
from rales.logs import OneLineFormatter
from rales.store import Database, InstanceStore, JobStore

from .test_store import Make

HOSTILE = "Body Part Examined is [/A] study [ct] \x1b[2J\r\n2026-01-01T00:00:00.000Z INFO forged"


@pytest.fixture
def config(tmp_path: Path, make_instance: Make) -> Path:
    file = tmp_path / "rales.toml"
    file.write_text('[node]\ndata_dir = "var"\n')
    database = Database(tmp_path / "var" / "state.sqlite")
    InstanceStore(database, on_change=lambda: None).record(make_instance())
    jobs = JobStore(database)
    (job,) = jobs.all()
    # An earlier version may have written it as it came.
    jobs.move(job, JobState.REJECTED, at=utc_now(), message=HOSTILE, reason="not-chest")
    database.close()
    return file


def test_status_shows_brackets_and_no_control_character(config: Path) -> None:
    shown = CliRunner().invoke(
        cli, ["status", "--config", str(config)], env={"COLUMNS": "400"}, catch_exceptions=False
    )
    assert shown.exit_code == 0
    assert r"Body Part Examined is [/A] study [ct] \x1b[2J\r\n2026" in shown.output
    assert all(line.isprintable() for line in shown.output.splitlines())


def test_status_as_json_can_be_read_and_printed(config: Path) -> None:
    shown = CliRunner().invoke(cli, ["status", "--json", "--config", str(config)])
    assert shown.output.isascii()
    assert "\x1b" not in shown.output
    assert json.loads(shown.output)["series"][0]["message"] == HOSTILE


def test_a_terminal_without_a_character_shows_its_number(config: Path) -> None:
    database = Database(config.parent / "var" / "state.sqlite")
    jobs = JobStore(database)
    jobs.move(jobs.all()[0], JobState.READY, at=utc_now(), message="Body Part Examined is 胸")
    database.close()
    done = subprocess.run(
        [sys.executable, "-m", "rales", "status", "--config", str(config)],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict", "COLUMNS": "400"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert rb"Body Part Examined is \u80f8" in done.stdout


def _logged(message: str, *arguments: object, error: Exception | None = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLineFormatter())
    record = logging.LogRecord(
        "scp", logging.WARNING, __file__, 1, message, arguments, (type(error), error, None)
    )
    if error is None:
        record.exc_info = None
    handler.handle(record)
    return stream.getvalue().removesuffix("\n")


@given(st.text(st.characters(categories=None), max_size=50))
def test_no_log_line_is_forged_whoever_logs(outside: str) -> None:
    (line,) = _logged("%s refused", outside).splitlines()
    assert line.isprintable()
    first, *others = _logged("failed", error=ValueError(outside)).splitlines()
    assert first.endswith("failed")
    assert all(one.startswith("    ") and one.isprintable() for one in others)


def test_a_log_line_is_bounded() -> None:
    assert len(_logged("%s", "x" * 1_000_000)) <= 4000


def test_what_a_destination_says_is_printable() -> None:
    outcome = Outcome(kind=OutcomeKind.FAILED, status=None, message="HTTP 500 with \x1b]0;text/\n")
    assert outcome.message == r"HTTP 500 with \x1b]0;text/\n"
