"""A disk that runs full: refused before, nothing half-written, taken again by itself."""

from __future__ import annotations

import logging
import resource
import signal
from pathlib import Path

import pytest

from chestct.errors import OutOfResources
from chestct.uids import Uid
from scp.spool import Spool
from scp.status import StoreStatus, status_of

SERIES = Uid("1.2.3")


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
