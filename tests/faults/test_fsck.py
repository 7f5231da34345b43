"""What a power cut or a bad disk leaves is found, set aside and healed by a resend."""

from __future__ import annotations

import fcntl
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from chestct.errors import ConfigError
from chestct.series import ReceivedInstance
from chestct.uids import Uid
from rales.cli import cli
from rales.state.store import Database, InstanceStore
from scp.spool import Spool

SERIES = Uid("1.2.3")
CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
META = (
    bytes(128)
    + b"DICM"
    + encode_file_meta(
        create_file_meta(
            sop_class_uid=CT_IMAGE,
            sop_instance_uid=UID("1.2.3.0"),
            transfer_syntax=UID("1.2.840.10008.1.2.1"),
        )
    )
)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Four instances, stored and recorded."""
    (tmp_path / "rales.toml").write_text('[node]\ndata_dir = "var"\n')
    database = Database(tmp_path / "var" / "state.sqlite")
    store = InstanceStore(database, on_change=lambda: None)
    spool = Spool(tmp_path / "var" / "spool")
    for number in range(4):
        spooled = spool.write(SERIES, META, b"content %d" % number)
        store.record(
            ReceivedInstance(
                path=spooled.path,
                sop_class_uid=Uid(CT_IMAGE),
                sop_instance_uid=Uid(f"1.2.3.{number}"),
                series_uid=SERIES,
                study_uid=Uid("1.2"),
                patient_key="key",
                transfer_syntax_uid=Uid("1.2.840.10008.1.2.1"),
                content_digest=spooled.content_digest,
                size=spooled.size,
                received_at=datetime.now(UTC),
                calling_ae="CT",
                slice_position=float(number),
                expected_instances=None,
            )
        )
    rows = database.rows("SELECT path FROM instances ORDER BY sop_instance_uid")
    database.close()
    return [tmp_path / "var" / row["path"] for row in rows]


def _fsck(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    command = ["fsck", "--config", str(folder / "rales.toml"), "--json", *options]
    result = CliRunner().invoke(cli, command)
    return result.exit_code, {Path(row["path"]).name: row for row in json.loads(result.output)}


def test_a_sound_spool_has_no_fault(tmp_path: Path, paths: list[Path]) -> None:
    assert len(paths) == 4
    assert _fsck(tmp_path, "--deep") == (0, {})


def test_every_fault_is_found_set_aside_and_healed(tmp_path: Path, paths: list[Path]) -> None:
    gone, short, flipped, sound = paths
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"!")
    orphan = sound.with_name("orphan.dcm")
    orphan.write_bytes(b"never acknowledged")
    cheap, faults = _fsck(tmp_path)
    assert cheap == 1
    expected = {gone.name: "missing", short.name: "wrong size", orphan.name: "orphan"}
    assert {name: row["fault"] for name, row in faults.items()} == expected
    code, faults = _fsck(tmp_path, "--deep", "--repair")
    assert code == 1, "what is missing cannot be repaired here"
    assert faults[flipped.name]["fault"] == "wrong digest"
    kept = {path.name for path in (tmp_path / "var" / "quarantine").iterdir()}
    assert kept == {short.name, flipped.name, orphan.name}
    spool = Spool(tmp_path / "var" / "spool")
    for number in range(3):
        spool.write(SERIES, META, b"content %d" % number)
    assert _fsck(tmp_path, "--deep") == (0, {})


def test_a_running_node_is_left_alone(tmp_path: Path, paths: list[Path]) -> None:
    assert paths
    with (tmp_path / "var" / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["fsck", "--config", str(tmp_path / "rales.toml")]
        error = CliRunner().invoke(cli, command).exception
    assert isinstance(error, ConfigError)
    assert "running" in str(error)
