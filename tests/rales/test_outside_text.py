"""Text from outside meets no terminal, no log and no markup as it came."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chestct.series import accession_key
from chestct.states import JobState
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.cli import cli
from rales.cli.logs import OneLineFormatter
from rales.runtime.clock import utc_now
from rales.state.store import Database, InstanceStore, JobStore
from rales.steps.notify.transport import Endpoint, Request

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


def test_a_traceback_is_bounded() -> None:
    shown = _logged("failed", error=ValueError("a\n" * 100_000))
    assert len(shown.splitlines()) < 300


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 " + b"\x1b[2J" * 10_000 + b"\r\n\r\n",
        b"\x9b31m" * 10_000 + b"\r\n",
        b"HTTP/1.1 500 \x1b[2J" + b"[/A]" * 10_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["status", "no HTTP", "reason"],
)
def test_what_a_web_service_says_is_printable_and_bounded(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        endpoint = Endpoint(url=url, ca_file=None, token_file=None, timeout_seconds=10)
        outcome = endpoint.post(Request(body=b"{}", headers={}))
        thread.join()
    assert outcome.message.isprintable()
    assert len(outcome.message) <= 500


def test_what_a_destination_says_is_printable() -> None:
    outcome = Outcome(kind=OutcomeKind.FAILED, status=None, message="HTTP 500 with \x1b]0;text/\n")
    assert outcome.message == r"HTTP 500 with \x1b]0;text/\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "999999d"),
        ("--since", "0001-01-01T00:00+14:00"),
        ("--since", "9999-12-31T23:59-14:00"),
        ("--limit", "9" * 30),
        ("--accession", "\udcff"),
        ("--accession", "x" * 70_000),
        ("--series", "\udcff"),
        ("--series", "%"),
    ],
)
def test_a_filter_that_nothing_can_match_ends_in_a_word(
    config: Path, arguments: tuple[str, str]
) -> None:
    asked = ["status", "--config", str(config), *arguments]
    shown = CliRunner().invoke(cli, asked, env={"COLUMNS": "400"})
    assert shown.exception is None or isinstance(shown.exception, SystemExit)
    assert shown.exit_code in {0, 2}


def test_an_accession_number_of_other_bytes_is_found(tmp_path: Path, make_instance: Make) -> None:
    file = tmp_path / "rales.toml"
    file.write_text('[node]\ndata_dir = "var"\n')
    database = Database(tmp_path / "var" / "state.sqlite")
    latin = replace(make_instance(), accession_key=accession_key(b"M\xfcller 1"))
    InstanceStore(database, on_change=lambda: None).record(latin)
    database.close()
    asked = ["status", "--config", str(file), "--accession", "M\udcfcller 1"]
    shown = CliRunner().invoke(cli, asked, env={"COLUMNS": "400"}, catch_exceptions=False)
    assert str(latin.series_uid) in shown.output


def test_config_check_and_fsck_print_what_prints(tmp_path: Path) -> None:
    file = tmp_path / "rales.toml"
    file.write_text(
        '[node]\ndata_dir = "va\u202er"\n[[destinations]]\nname = "pa\u200bcs"\n'
        'ae_title = "P"\nhost = "h\u202et"\nport = 1\n'
    )
    strange = tmp_path / "va\u202er" / "spool" / "\x1b[2J\nforged" / "1.dcm"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"no image")
    for command in (["config", "check", str(file)], ["fsck", "--rebuild", "--config", str(file)]):
        shown = CliRunner().invoke(cli, command, env={"COLUMNS": "400"})
        assert shown.output
        assert all(line.isprintable() for line in shown.output.splitlines())
        assert not any(line.startswith("forged") for line in shown.output.splitlines())
