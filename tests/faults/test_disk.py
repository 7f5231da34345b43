"""A disk that runs full: refused before, nothing half-written, taken again by itself."""

from __future__ import annotations

import logging
import resource
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_each,
    tiny_thorax,
    write_models,
    write_tiny_series,
)

from chestct.errors import OutOfResources
from chestct.uids import Uid
from scp.spool import Spool
from scp.status import StoreStatus, status_of

SERIES = Uid("1.2.3")
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


class Disk:
    """A disk whose free space is what the test says."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, _folder: Path, /) -> int:
        return self.free


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_below_the_mark_images_are_refused_and_above_it_taken_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(2000)
    spool = Spool(tmp_path, reserve=1000, free=disk)
    kept = spool.write(SERIES, b"m", b"first")
    disk.free = 1005
    with caplog.at_level(logging.INFO, "scp.space"):
        for _ in range(3):
            with pytest.raises(OutOfResources) as refused:
                spool.write(SERIES, b"m", b"second")
            assert status_of(refused.value) is StoreStatus.OUT_OF_RESOURCES
        assert spool.write(SERIES, b"m", b"first") == kept, "a resend needs no space"
        assert _files(tmp_path) == [kept.path]
        disk.free = 1007
        spool.write(SERIES, b"m", b"second")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert len(_files(tmp_path)) == 2


def test_a_write_that_the_kernel_cuts_short_leaves_no_half_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OutOfResources) as refused:
            spool.write(SERIES, b"m", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert status_of(refused.value) is StoreStatus.OUT_OF_RESOURCES
    assert _files(tmp_path) == []
    assert spool.write(SERIES, b"m", bytes(10_000)).path.stat().st_size == 10_001


def _can_mount() -> bool:
    mount = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "mount",
        "-t",
        "tmpfs",
        "none",
        "/mnt",
    ]
    try:
        return subprocess.run(mount, capture_output=True, check=False, timeout=20).returncode == 0
    except FileNotFoundError:
        return False


class SmallDisk(TinyNode):
    """A node whose data folder is a file system of 4 MB, in a mount namespace of its own."""

    def command(self) -> list[str]:
        """Return the command that mounts it and starts the node there."""
        (self.folder / "data").mkdir(exist_ok=True)
        mount = f'mount -t tmpfs -o size=4m none "{self.folder}/data" && exec "$@"'
        return [*_NAMESPACE, "sh", "-c", mount, "sh", *super().command()]

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask a copy of the state file: SQLite would look for it outside the namespace."""
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for name in ("state.sqlite", "state.sqlite-wal"):
            shutil.copy(self.seen / name, copy / name)
        with closing(sqlite3.connect(copy / "state.sqlite")) as connection:
            return connection.execute(sql, parameters).fetchall()

    @property
    def seen(self) -> Path:
        """The data folder, through the eyes of the node."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{self.folder}/data")


@pytest.mark.skipif(not _can_mount(), reason="needs user namespaces that may mount a tmpfs")
def test_a_full_disk_is_answered_and_recovers_without_a_restart(tmp_path: Path) -> None:
    thorax = tiny_thorax()
    series = write_tiny_series(thorax, tmp_path / "series", "one")
    pacs = StoringPacs()
    node = SmallDisk(
        folder=tmp_path,
        models=write_models(tmp_path / "models", thorax),
        destinations=[pacs.start()],
        low_water=False,
    )
    try:
        node.start()
        filler = node.seen / "filler"
        with filler.open("wb", buffering=0) as file:
            left = shutil.disk_usage(node.seen).free - 100_000
            file.write(bytes(left))
        acknowledged: set[str] = set()
        statuses = send_each(node.port, series.files, acknowledged)
        assert statuses.count(0xA700) >= 1
        assert set(statuses) <= {0x0000, 0xA700}
        rows = node.rows("SELECT sop_instance_uid, path, size FROM instances")
        assert {row[0] for row in rows} <= acknowledged, "a row may have to wait for space"
        kept = {pydicom.dcmread(path).SOPInstanceUID for path in node.seen.rglob("*.dcm")}
        assert acknowledged <= kept
        for _, path, size in rows:
            assert (node.seen / path).stat().st_size == size
        assert not list(node.seen.rglob("*.partial"))
        filler.unlink()
        assert set(send_each(node.port, series.files, acknowledged)) == {0x0000}
        assert node.ended(series.uid) == "done"
        assert set(pacs.times.values()) == {1}
        rows = node.rows("SELECT sop_instance_uid FROM instances")
        assert {row[0] for row in rows} == acknowledged
        assert node.terminate() == 0
    finally:
        node.end()
        pacs.stop()
