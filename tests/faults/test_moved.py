"""A data folder that is moved, linked, emptied or older: nothing acknowledged is moved or lost."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from spool_rig import NOON, SpoolRig, spool_rig
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from chestct.errors import ConfigError
from chestct.states import JobState
from chestct.uids import Uid
from rales.cli import cli
from rales.node.fsck import HANDFUL, examine
from rales.state.store import Database, InstanceStore, JobStore, RetentionStore

SERIES = "1.2.3"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SpoolRig]:
    yield from spool_rig(tmp_path / "data")


def _fsck(rig: SpoolRig, *options: str) -> tuple[int, str]:
    config = rig.folder.parent / "rales.toml"
    config.write_text(f'[node]\ndata_dir = "{rig.folder}"\n')
    result = CliRunner().invoke(cli, ["fsck", "--config", str(config), *options])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, result.output


def _identities(rig: SpoolRig) -> set[tuple[object, ...]]:
    """Return what an analysis and its keys depend on."""
    return {
        tuple(row)
        for row in rig.database.rows(
            "SELECT sop_instance_uid, content_digest, series_uid, study_uid, sop_class_uid,"
            " transfer_syntax_uid, patient_key, path, size, slice_position, value_digest"
            " FROM instances"
        )
    }


def test_rows_name_files_by_their_place_below_the_data_folder(rig: SpoolRig) -> None:
    (one,) = rig.receive(SERIES, 1)
    rows = rig.database.rows("SELECT path FROM instances")
    assert [row["path"] for row in rows] == [str(one.path.relative_to(rig.folder))]
    assert [found.path for found in rig.instances.of_series(one.series_uid)] == [one.path]


@pytest.mark.parametrize("how", ["moved", "linked"])
def test_another_way_to_the_data_folder_changes_nothing(how: str, rig: SpoolRig) -> None:
    received = rig.receive(SERIES, 30)
    rig.close()
    elsewhere = rig.folder.parent / "elsewhere"
    if how == "moved":
        rig.folder.rename(elsewhere)
    else:
        elsewhere.symlink_to(rig.folder)
    other = SpoolRig(elsewhere)
    assert other.check() == "all there"
    assert other.quarantined() == set()
    assert all(one.path.exists() for one in other.instances.of_series(received[0].series_uid))
    other.close()


def test_a_start_with_an_empty_state_file_touches_nothing_and_says_what_to_do(
    rig: SpoolRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.receive(SERIES, 30)
    before, files = _identities(rig), rig.files()
    rig.close()
    kept = rig.layout.state.rename(rig.folder / "kept.sqlite")
    rig.open()
    assert "30 orphan" in rig.check()
    assert "rales fsck --rebuild" in caplog.text
    assert (rig.files(), rig.quarantined()) == (files, set())
    assert rig.database.rows("SELECT * FROM instances") == []
    rig.close()
    # Putting things back heals it.
    kept.rename(rig.layout.state)
    rig.open()
    assert rig.check() == "all there"
    assert _identities(rig) == before


def test_lost_rows_are_rebuilt_from_the_spool(rig: SpoolRig) -> None:
    received = rig.receive(SERIES, 30) + rig.receive("1.2.4", 12)
    before = _identities(rig)
    rig.close()
    rig.layout.state.unlink()
    code, output = _fsck(rig, "--rebuild")
    assert code == 0, output
    assert "42 images recorded" in output
    rig.open()
    assert _identities(rig) == before
    assert [job.state for job in rig.jobs.all()] == [JobState.RECEIVING] * 2
    assert {one.path for one in received} >= {
        one.path for one in rig.instances.of_series(received[0].series_uid)
    }
    assert list(examine(rig.database, rig.layout.spool, deep=True)) == []


@pytest.mark.parametrize("damage", ["zeros", "half"])
def test_a_damaged_state_file_is_said_with_what_to_do(damage: str, rig: SpoolRig) -> None:
    rig.receive(SERIES, 30)
    before = _identities(rig)
    rig.close()
    content = rig.layout.state.read_bytes()
    half = content[: len(content) // 2]
    rig.layout.state.write_bytes(half if damage == "half" else bytes(len(content)))
    with pytest.raises(ConfigError, match=r"is damaged: move it away .* `rales fsck --rebuild`"):
        rig.open()
    for path in rig.folder.glob("state.sqlite*"):
        path.unlink()
    assert _fsck(rig, "--rebuild")[0] == 0
    rig.open()
    assert _identities(rig) == before


def test_what_is_rebuilt_does_not_wait_for_a_time_to_come(rig: SpoolRig) -> None:
    """The clock was ahead when the files were written, or they were copied with other times."""
    rig.receive(SERIES, 30)
    rig.close()
    rig.layout.state.unlink()
    ahead = time.time() + 31 * 86_400
    for path in rig.layout.spool.glob("*/*"):
        os.utime(path, (ahead, ahead))
    assert _fsck(rig, "--rebuild")[0] == 0
    rig.open()
    received = [one.received_at for one in rig.instances.of_series(Uid(SERIES))]
    assert len(received) == 30
    assert max(received) <= datetime.now(UTC)


def test_an_older_state_file_gets_what_came_since(rig: SpoolRig) -> None:
    rig.receive(SERIES, 5)
    rig.close()
    shutil.copy(rig.layout.state, rig.folder / "older.sqlite")
    rig.open()
    rig.receive(SERIES, 20, first=5)
    before = _identities(rig)
    rig.close()
    (rig.folder / "older.sqlite").replace(rig.layout.state)
    rig.open()
    assert "20 orphan" in rig.check()
    assert rig.quarantined() == set()
    rig.close()
    with pytest.raises(
        ConfigError,
        match="20 files are damaged or unknown; --repair moves at most 10 and moved none",
    ):
        _fsck(rig, "--repair")
    assert rig.quarantined() == set()
    assert _fsck(rig, "--rebuild")[0] == 0
    rig.open()
    assert _identities(rig) == before


def test_the_few_that_a_power_cut_left_unrecorded_are_taken_in(rig: SpoolRig) -> None:
    rig.receive(SERIES, 5)
    for number in range(5, 5 + HANDFUL):
        os.utime(rig.write(SERIES, number).path, (1, 1))
    assert rig.check() == "all there"
    assert len(rig.database.rows("SELECT * FROM instances")) == 5 + HANDFUL
    assert rig.quarantined() == set()


def test_what_is_no_image_is_left_to_a_person(rig: SpoolRig) -> None:
    (one,) = rig.receive(SERIES, 1)
    odd = one.path.with_name("f" * 64 + ".dcm")
    odd.write_bytes(b"what is this?")
    os.utime(odd, (1, 1))
    assert rig.check() == "1 orphan: rales fsck lists them"
    assert rig.files() == {one.path.name, odd.name}
    rig.close()
    assert _fsck(rig, "--repair")[0] == 0
    assert rig.quarantined() == {odd.name}
    rig.open()


def test_what_an_earlier_version_moved_to_quarantine_comes_back(rig: SpoolRig) -> None:
    received = rig.receive(SERIES, 30)
    before = _identities(rig)
    rig.layout.quarantine.mkdir()
    for one in received:
        one.path.rename(rig.layout.quarantine / one.path.name)
    assert "30 missing" in rig.check()
    rig.close()
    code, output = _fsck(rig, "--rebuild")
    assert code == 0, output
    rig.open()
    assert _identities(rig) == before
    assert rig.check() == "all there"
    assert rig.quarantined() == set()


def test_a_spool_that_is_not_mounted_is_said_and_nothing_is_changed(
    rig: SpoolRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.receive(SERIES, 30)
    before = _identities(rig)
    away = rig.layout.spool.rename(rig.folder / "unmounted")
    rig.layout.spool.mkdir()
    assert "30 missing" in rig.check()
    assert "Is its disk mounted?" in caplog.text
    rig.layout.spool.rmdir()
    away.rename(rig.layout.spool)
    assert rig.check() == "all there"
    assert _identities(rig) == before


def test_released_files_after_a_kill_are_removed_and_never_quarantined(rig: SpoolRig) -> None:
    received = rig.receive(SERIES, 30)
    with rig.database.transaction() as tx:
        tx.execute("UPDATE instances SET released_at = ?, gone = 0", (NOON.isoformat(),))
    # Half of the files are off the disk, and nothing of it is recorded.
    for one in received[::2]:
        one.path.unlink()
    assert rig.check() == "all there"
    store = RetentionStore(rig.database)
    assert store.purge(lambda path: path.unlink(missing_ok=True)).removed == 30
    assert (rig.files(), rig.quarantined()) == (set(), set())
    # A copy of the folder, made before, comes back over it.
    received[0].path.write_bytes(b"patient data")
    os.utime(received[0].path, (1, 1))
    rig.check()
    assert store.purge(lambda path: path.unlink(missing_ok=True)).removed == 1
    assert rig.files() == set()


def test_half_written_files_are_removed_but_those_being_written(rig: SpoolRig) -> None:
    (one,) = rig.receive(SERIES, 1)
    half = one.path.with_name("tmpabc.partial")
    half.write_bytes(b"half")
    own = one.path.with_name(f"{rig.spool._run}x.partial")
    own.write_bytes(b"being written")
    assert not rig.spool.is_left_over(own)
    worker = rig.housekeeping()
    worker._spool = rig.spool
    worker.step(NOON)
    assert rig.files() == {one.path.name, own.name}


@pytest.mark.parametrize("how", ["started", "rebuilt"])
def test_no_job_takes_the_folder_of_one_of_another_state_file(how: str, rig: SpoolRig) -> None:
    """Put back, it would find the results of another series in the place of its own."""
    (rig.layout.results / "00000007").mkdir(parents=True)
    if how == "started":
        rig.jobs.leave_out(rig.layout.results)
        rig.receive(SERIES, 2)
    else:
        rig.receive(SERIES, 2)
        rig.close()
        rig.layout.state.unlink()
        assert _fsck(rig, "--rebuild")[0] == 0
        rig.open()
    rig.jobs.leave_out(rig.layout.results)
    rig.receive("1.2.4", 1)
    assert [job.id for job in rig.jobs.all()] == [8, 9]


def test_results_of_ended_jobs_go_and_those_of_no_job_stay(rig: SpoolRig) -> None:
    names = {}
    with rig.database.transaction() as tx:
        for number, (state, result, released, stays) in enumerate(
            [
                ("done", "{}", None, True),
                ("done", "{}", "x", False),
                ("superseded", "{}", None, False),
                ("failed", None, None, False),
                ("failed", "{}", None, True),
                ("analysing", None, None, True),
                ("ready", None, None, True),
                ("rejected", None, None, False),
            ],
            start=1,
        ):
            tx.execute(
                "INSERT INTO jobs (id, series_uid, study_uid, calling_ae, revision, state, since,"
                " created_at, result, released_at) VALUES (?, ?, '1.2', 'CT', 1, ?, ?, ?, ?, ?)",
                (number, f"1.{number}", state, "", "", result, released),
            )
            names[f"{number:08d}"] = stays
    for name in (*names, "00000099"):
        (rig.layout.results / name).mkdir(parents=True)
        (rig.layout.results / name / "seg.dcm").write_bytes(b"x")
    rig.check()
    left = {path.name for path in rig.layout.results.iterdir()}
    assert left == {name for name, stays in names.items() if stays} | {"00000099"}


def test_moving_to_quarantine_works_across_file_systems(
    rig: SpoolRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = rig.receive(SERIES, 1)
    one.path.write_bytes(b"short")
    rename = Path.rename

    def other_device(self: Path, target: Path) -> Path:
        if self.suffix == ".dcm" and "spool" in self.parts and "quarantine" in Path(target).parts:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", other_device)
    rig.close()
    assert _fsck(rig, "--repair")[0] == 0
    assert rig.quarantined() == {one.path.name}
    assert (rig.layout.quarantine / one.path.name).read_bytes() == b"short"
    assert not one.path.exists()
    rig.open()


def test_a_resend_heals_what_the_disk_lost_or_damaged(rig: SpoolRig) -> None:
    gone, short, flipped = rig.receive(SERIES, 3)
    gone.path.unlink()
    short.path.write_bytes(short.path.read_bytes()[:-3])
    flipped.path.write_bytes(flipped.path.read_bytes()[:-1] + b"!")
    assert len(list(examine(rig.database, rig.layout.spool, deep=True))) == 3
    rig.receive(SERIES, 3)
    assert list(examine(rig.database, rig.layout.spool, deep=True)) == []


def test_the_check_takes_a_moment_at_a_time(rig: SpoolRig) -> None:
    for number in range(20):
        rig.receive(f"1.2.{number + 1}", 1)
    ticks = iter(range(100_000))
    worker = rig.housekeeping()
    worker._monotonic = lambda: next(ticks) / 10  # every look takes longer than a moment
    worker.step(NOON)
    assert rig.told == []
    for _ in range(2000):
        worker.step(NOON)
    assert rig.told == ["all there"]


def test_a_moved_node_goes_on_and_another_spool_is_no_trouble_with_the_port(
    tmp_path: Path,
) -> None:
    thorax, pacs = tiny_thorax(), StoringPacs()
    series = write_tiny_series(thorax, tmp_path / "series", "one")
    node = TinyNode(
        folder=tmp_path / "here",
        models=write_models(tmp_path / "models", thorax),
        destinations=[pacs.start()],
    )
    node.folder.mkdir()
    try:
        node.start()
        acknowledged: set[str] = set()
        assert send_files(node.port, series.files, acknowledged)
        assert node.ended(series.uid) == "done"
        assert node.terminate() == 0
        node.folder = node.folder.rename(tmp_path / "there")
        data = node.state.parent
        (data / "spool").rename(tmp_path / "large disk")
        (data / "spool").symlink_to(tmp_path / "large disk")
        orphan = next((tmp_path / "large disk").iterdir()) / ("0" * 64 + ".dcm")
        orphan.write_bytes(b"no image")
        node.start()
        files = "SELECT value FROM node WHERE name = 'files'"
        told = "1 orphan: rales fsck lists them"
        wait_for("the check of the files", lambda: node.rows(files) == [(told,)])
        assert not (data / "quarantine").exists()
        assert send_files(node.port, series.files, acknowledged)
        assert set(pacs.times.values()) == {1}
        assert node.jobs(series.uid) == [("done", "")]
        assert node.terminate() == 0
        assert "cannot listen" not in node.log()
    finally:
        node.end()
        pacs.stop()


def test_a_store_that_reads_within_a_transaction_sees_its_changes(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.sqlite")
    jobs = JobStore(database)
    instances = InstanceStore(database, on_change=lambda: None)
    with database.transaction() as tx:
        tx.execute("INSERT INTO node VALUES ('a', 'b')")
        assert len(database.rows("SELECT * FROM node")) == 1
    assert len(database.rows("SELECT * FROM node")) == 1
    assert (jobs.all(), instances.of_series(Uid(SERIES))) == ([], [])
    database.close()
