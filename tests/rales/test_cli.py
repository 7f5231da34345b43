import json
import shutil
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner, Result
from latest import latest_of_series
from spool_rig import NOON, spool_rig

from chestct.errors import ConfigError
from chestct.states import JobState
from rales.cli import cli
from rales.runtime.clock import utc_now
from rales.state.store import Database, InstanceStore, JobStore
from rales.state.store.database import to_text

from .test_store import Make


def _run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--version"], 0),
        (["echo", "NOBODY@127.0.0.1:1"], 1),
        (["config", "check", "/nowhere.toml"], 1),
        (["retry"], 2),
    ],
)
def test_the_process_exits_with_the_status(words: list[str], status: int) -> None:
    command = [sys.executable, "-m", "rales", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["analyze"],
        ["status"],
        ["retry"],
        ["echo"],
        ["check"],
        ["config", "check"],
        ["demo"],
    ],
)
def test_help_teaches(command: list[str]) -> None:
    result = _run(*command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.slow
def test_analyze_writes_the_four_files(small_series: Path, tmp_path: Path) -> None:
    result = _run("analyze", small_series, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"seg.dcm", "sr.dcm", "findings.json", "overlay.png"}
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert findings["findings"]["total"]["volume_ml"] == pytest.approx(4900, rel=0.1)


@pytest.mark.slow
def test_analyze_takes_a_zip_a_list_and_several_series(
    small_series: Path, healthy_series: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "one.zip"
    with zipfile.ZipFile(archive, "w") as content:
        for path in small_series.iterdir():
            content.write(path, f"../../{path.name}")
    listed = tmp_path / "two.txt"
    listed.write_text("\n".join(str(path) for path in healthy_series.iterdir()))
    result = _run("analyze", archive, listed, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    series = {
        pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID
        for folder in (small_series, healthy_series)
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == series
    assert not (tmp_path.parent / "0001.dcm").exists()


def test_analyze_says_why_nothing_was_analysed(small_series: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(small_series.iterdir())[:5]:
        shutil.copy(path, few)
    (few / "notes.txt").write_text("no image")
    result = _run("analyze", few, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "too-few-slices" in result.output
    assert "5 slices, at least 20 are needed" in result.output.replace("\n", " ")
    assert "notes.txt:isnotDICOM" in "".join(result.output.split())  # wherever a line ended
    assert not (tmp_path / "out").exists()


def test_analyze_of_nothing_is_an_error(tmp_path: Path) -> None:
    result = _run("analyze", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert isinstance(result.exception, ConfigError)
    assert "does not exist" in str(result.exception)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "rales.toml"
    file.write_text('[node]\ndata_dir = "var"\nport = 0\nhost = "127.0.0.1"\n')
    return file


def test_status_before_the_first_start_says_so(config: Path) -> None:
    result = _run("status", "--config", config)
    assert isinstance(result.exception, ConfigError)
    assert "has the node run?" in str(result.exception)


def test_status_and_retry_of_a_rejected_series(config: Path, make_instance: Make) -> None:
    database = Database(config.parent / "var" / "state.sqlite")
    InstanceStore(database, on_change=lambda: None).record(make_instance())
    jobs = JobStore(database)
    (job,) = jobs.all()
    now = utc_now()
    jobs.move(job, JobState.REJECTED, at=now, message="the slices lean", reason="gantry-tilt")
    database.close()
    shown = _run("status", "--config", config)
    assert "gantry-tilt" in shown.output
    assert "rejected" in shown.output
    (found,) = json.loads(_run("status", "--config", config, "--json").output)["series"]
    assert [event["after"] for event in found["events"]] == ["receiving", "rejected"]
    assert "1.2.3: rejected -> ready" in _run("retry", "1.2.3", "--config", config).output
    again = _run("retry", "1.2.3", "--config", config)
    assert again.exit_code == 1
    assert "ready" in again.output
    assert _run("retry", "9.9", "--config", config).exit_code == 2
    assert "nothing to retry" in _run("retry", "--all-failed", "--config", config).output


def test_retry_of_all_goes_on_after_one_that_cannot_be(config: Path, make_instance: Make) -> None:
    database = Database(config.parent / "var" / "state.sqlite")
    instances, jobs = InstanceStore(database, on_change=lambda: None), JobStore(database)
    for number in range(3):
        instances.record(make_instance(series=f"1.2.{number}"))
        job = latest_of_series(jobs, f"1.2.{number}")
        assert job is not None
        with database.transaction() as tx:
            tx.execute("UPDATE jobs SET state = 'failed' WHERE id = ?", (job.id,))
    with database.transaction() as tx:
        tx.execute("UPDATE jobs SET released_at = since WHERE series_uid = '1.2.1'")
    database.close()
    result = _run("retry", "--all-failed", "--config", config)
    assert result.exit_code == 1
    assert "1.2.1 is failed: retention released" in result.output
    for other in ("1.2.0", "1.2.2"):
        assert f"{other}: failed -> ready" in result.output


def test_check_looks_at_everything(config: Path) -> None:
    result = _run("check", "--config", config)
    assert result.exit_code == 0, result.output
    for looked_at in ("configuration", "environment", "data directory", "models", "port"):
        assert f"ok    {looked_at}" in result.output


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_check_names_a_destination_that_does_not_answer(config: Path) -> None:
    with config.open("a") as file:
        file.write(
            '[[destinations]]\nname = "pacs"\nae_title = "X"\nhost = "127.0.0.1"\nport = 1\n'
        )
    result = _run("check", "--config", config)
    assert result.exit_code == 1
    assert "FAIL  destination pacs" in result.output


def test_config_check(config: Path) -> None:
    assert "is valid" in _run("config", "check", config).output
    config.write_text("[nod]\n")
    result = _run("config", "check", config)
    assert "did you mean 'node'" in str(result.exception)


def test_status_shows_the_latest_and_what_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "rales.toml").write_text('[node]\ndata_dir = "data"\n')
    config = str(tmp_path / "rales.toml")
    for rig in spool_rig(tmp_path / "data"):
        for number in range(60):
            rig.instances.record(rig.write(f"1.2.{number + 1}", 0, accession=f" A{number} "))
        with rig.database.transaction() as tx:
            tx.execute(
                "UPDATE jobs SET state = 'failed', since = ? WHERE id <= 3",
                (to_text(NOON + timedelta(days=1)),),
            )

    def shown(*options: str) -> tuple[list[int], int]:
        content = json.loads(_run("status", "--config", config, "--json", *options).output)
        return [one["job"] for one in content["series"]], content["omitted"]

    assert shown() == (list(range(11, 61)), 10)
    assert shown("--limit", "2") == ([59, 60], 58)
    assert shown("--limit", "0") == (list(range(1, 61)), 0)
    assert shown("--state", "failed", "--limit", "2") == ([2, 3], 1)
    assert shown("--state", "failed", "--state", "receiving")[1] == 10
    assert shown("--since", "2026-01-03T00:00:00+00:00") == ([1, 2, 3], 0)
    assert shown("--since", "1m") == ([], 0)
    assert shown("--accession", "A7") == ([8], 0)
    assert shown("--accession", "") == ([], 0)
    assert shown("--series", "1.2.7") == ([7], 0)
    assert shown("--series", ".2.60") == ([60], 0)
    text = _run("status", "--config", config).output
    assert "10 earlier series are not shown; --limit 0 shows all." in text
    assert "No such series." in _run("status", "--config", config, "--state", "done").output
    assert b"A7" not in (tmp_path / "data" / "state.sqlite").read_bytes()
    assert "is neither a time (" in _run("status", "--config", config, "--since", "soon").output
