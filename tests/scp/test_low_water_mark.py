"""A sender is told 0xA700 before the disk is full, and taken again without a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from scp.server import ScpSettings, start
from scp.spool import Spool

from .conftest import MemoryIntake, make_ct, store


def test_a_sender_is_refused_below_the_mark_and_taken_above_it(tmp_path: Path) -> None:
    free = 1_000_000

    def disk(_folder: Path, /) -> int:
        return free

    intake = MemoryIntake()
    spool = Spool(tmp_path, reserve=1_000_000, free=disk)
    settings = ScpSettings(ae_title="RALES", host="127.0.0.1", port=0)
    with start(settings, spool=spool, intake=intake, clock=lambda: datetime.now(UTC)) as node:
        refused = store(node, make_ct())
        assert (refused.Status, intake.instances) == (0xA700, [])
        assert refused.ErrorComment == "too little free space on the disk of this node"
        free = 2_000_000
        assert store(node, make_ct()).Status == 0x0000
    assert len(intake.instances) == 1
