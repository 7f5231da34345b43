"""A backup of a running node, brought back on an empty machine, goes on where it was."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
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
from rales.node.backup import back_up, restore
from rales.node.fsck import examine
from rales.state.layout import Layout
from rales.state.store import Database


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SpoolRig]:
    yield from spool_rig(tmp_path / "data")


def _rales(node: TinyNode, *words: str) -> str:
    command = [sys.executable, "-m", "rales", words[0], "--config", str(node.write_config())]
    done = subprocess.run([*command, *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_backup_of_a_running_node_goes_on_on_an_empty_machine(tmp_path: Path) -> None:
    thorax, pacs = tiny_thorax(), StoringPacs()
    first, second, third = (
        write_tiny_series(thorax, tmp_path / "series", name) for name in ("one", "two", "three")
    )
    models = write_models(tmp_path / "models", thorax)
    place = pacs.start()
    node = TinyNode(folder=tmp_path / "here", models=models, destinations=[place])
    other = TinyNode(folder=tmp_path / "there", models=models, destinations=[place])
    node.folder.mkdir()
    other.folder.mkdir()
    acknowledged: set[str] = set()
    try:
        node.start()
        assert send_files(node.port, first.files, acknowledged)
        assert node.ended(first.uid) == "done"
        pacs.stop()
        assert send_files(node.port, second.files, acknowledged)
        wait_for("results of the second", lambda: node.jobs(second.uid) == [("delivering", "")])
        kept = tmp_path / "kept"
        told = _rales(node, "backup", str(kept))
        images = len(first.files) + len(second.files)
        assert told.startswith(f"2 series, {images} images, "), told
        assert kept.stat().st_mode & 0o777 == 0o700
        node.kill()
        _rales(other, "restore", str(kept))
        assert other.jobs(first.uid) == [("done", "")]
        assert other.jobs(second.uid) == [("delivering", "")]
        pacs.start(place.port)
        other.start()
        assert other.ended(second.uid) == "done"
        assert send_files(other.port, third.files, acknowledged)
        assert other.ended(third.uid) == "done"
        for series in (first, second, third):
            found = pacs.of_series(series.uid)
            assert (len(found["SEG"]), len(found["SR"])) == (1, 1)
        assert set(pacs.times.values()) == {1}
        assert pacs.changed == []
        assert other.terminate() == 0
        # Images linked into the backup are those of the node that was lost, unchanged.
        assert "nothing is wrong" in _rales(other, "fsck", "--deep")
    finally:
        node.end()
        other.end()
        pacs.stop()


def test_every_digest_is_compared_and_what_is_damaged_left_out(
    rig: SpoolRig, tmp_path: Path
) -> None:
    one, two, _ = rig.receive("1.2.3", 3)
    results = rig.layout.results / "00000001"
    results.mkdir(parents=True)
    (results / "seg.dcm").write_bytes(b"seg")
    (results / "sr.dcm").write_bytes(b"sr")
    with rig.database.transaction() as tx:
        tx.execute("""UPDATE jobs SET state = 'done', result = '{"objects": []}'""")
    kept, new = tmp_path / "kept", Layout(tmp_path / "new")
    assert back_up(rig.layout, kept).images == 3
    copy = kept / one.path.relative_to(rig.folder)
    copy.unlink()  # it is a link: its bytes are the node's
    copy.write_bytes(one.path.read_bytes()[:-1] + b"!")
    (kept / two.path.relative_to(rig.folder)).unlink()
    (kept / "results" / "00000001" / "sr.dcm").write_bytes(b"SR")
    copied = restore(kept, new)
    assert (copied.images, copied.missing, copied.damaged, copied.results) == (1, 1, 2, 1)
    state = Database(new.state)
    faults = {finding.fault for finding in examine(state, new.spool, deep=True)}
    assert faults == {"missing"}
    state.close()
    assert [path.name for path in new.results.glob("*/*")] == ["seg.dcm"]


def test_nothing_is_written_over(rig: SpoolRig, tmp_path: Path) -> None:
    rig.receive("1.2.3", 1)
    kept = tmp_path / "kept"
    back_up(rig.layout, kept)
    with pytest.raises(ConfigError, match="not empty"):
        back_up(rig.layout, kept)
    with pytest.raises(ConfigError, match="not empty"):
        restore(kept, rig.layout)


def test_a_backup_that_was_cut_off_or_damaged_is_not_taken(rig: SpoolRig, tmp_path: Path) -> None:
    rig.receive("1.2.3", 1)
    kept, new = tmp_path / "kept", Layout(tmp_path / "new")
    back_up(rig.layout, kept)
    whole = (kept / "backup.json").read_text()
    (kept / "backup.json").unlink()
    with pytest.raises(ConfigError, match="written last"):
        restore(kept, new)
    (kept / "backup.json").write_text(whole)
    with sqlite3.connect(kept / "state.sqlite") as state:
        state.execute("UPDATE instances SET size = size + 1")
    state.close()
    with pytest.raises(ConfigError, match="digest differs"):
        restore(kept, new)
    assert not new.state.exists()


def test_an_image_that_retention_let_go_of_meanwhile_is_not_missing(
    rig: SpoolRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = rig.receive("1.2.3", 3)
    snapshot = "rales.node.backup.take_snapshot"
    from rales.node import backup  # noqa: PLC0415 - its own function is called below

    take = backup.take_snapshot

    def then_release(state: Path, copy: Path) -> None:
        take(state, copy)
        with rig.database.transaction() as tx:
            tx.execute("UPDATE instances SET released_at = ?, gone = 1", (NOON.isoformat(),))
        for one in received:
            one.path.unlink()

    monkeypatch.setattr(snapshot, then_release)
    copied = back_up(rig.layout, tmp_path / "kept")
    assert (copied.images, copied.missing) == (0, 0)
    state = Database(tmp_path / "kept" / "state.sqlite")
    assert list(examine(state, tmp_path / "kept" / "spool", deep=True)) == []
    state.close()


def test_images_are_linked_and_copied_where_they_cannot_be(
    rig: SpoolRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = rig.receive("1.2.3", 1)
    place = one.path.relative_to(rig.folder)
    back_up(rig.layout, tmp_path / "linked")
    assert (tmp_path / "linked" / place).samefile(one.path)

    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    back_up(rig.layout, tmp_path / "copied")
    assert not (tmp_path / "copied" / place).samefile(one.path)
    assert (tmp_path / "copied" / place).read_bytes() == one.path.read_bytes()


def _change_schema(state: Path, schema: int) -> None:
    with closing(sqlite3.connect(state)) as connection:
        connection.execute(f"PRAGMA user_version={schema}")
        connection.execute(f"PRAGMA application_id={0 if schema == 14 else 0x52616C65}")


@pytest.mark.parametrize("schema", [14, 9999])
def test_a_state_file_that_cannot_be_read_is_named_and_no_backup_begins(
    schema: int, rig: SpoolRig, tmp_path: Path
) -> None:
    layout = Layout(rig.folder)
    _change_schema(layout.state, schema)
    with pytest.raises(ConfigError, match=str(layout.state)):
        back_up(layout, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("schema", [14, 9999])
def test_a_backup_that_cannot_be_read_is_named_and_leaves_the_data_directory_empty(
    schema: int, rig: SpoolRig, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    back_up(Layout(rig.folder), backup)
    state = Layout(backup).state
    _change_schema(state, schema)
    facts = json.loads((backup / "backup.json").read_text())
    facts["state_sha256"] = hashlib.sha256(state.read_bytes()).hexdigest()
    (backup / "backup.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=str(state)):
        restore(backup, Layout(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []
