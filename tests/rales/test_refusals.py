"""What was refused at the door is counted, bounded, kept over a restart, and shown."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import ManualClock

from chestct.errors import OutOfResources
from rales.cli import cli
from rales.node.refusals import RefusalCounter
from rales.state.store import Database
from rales.state.store.refusals import MOST_PEERS, MOST_REASONS, OTHER_REASONS, RefusalStore
from scp.ports import Peer, Refused

from .conftest import NOON

CT1 = Peer(ae_title="CT1", address="10.0.0.1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def counter(database: Database, clock: ManualClock) -> RefusalCounter:
    return RefusalCounter(RefusalStore(database), clock)


def test_the_same_refusal_counts_up_also_over_a_restart(
    database: Database, counter: RefusalCounter, clock: ManualClock
) -> None:
    for _ in range(3):
        counter.refused(CT1, Refused.IMAGE, "0xC000 Pixel Data is missing")
    counter.step()
    clock.advance(60)
    again = RefusalCounter(RefusalStore(database), clock)
    again.refused(CT1, Refused.IMAGE, "0xC000 Pixel Data is missing")
    again.close()
    (one,) = RefusalStore(database).all()
    assert (one.peer, one.kind, one.count) == (CT1, Refused.IMAGE, 4)
    assert (one.first_at, one.last_at) == (NOON, NOON + timedelta(seconds=60))


def test_the_table_does_not_grow_with_those_who_knock(
    database: Database, counter: RefusalCounter
) -> None:
    for number in range(MOST_PEERS + 50):
        counter.refused(Peer(ae_title=f"X{number}", address="::1"), Refused.ASSOCIATION, "unknown")
    counter.step()
    for number in range(3000):
        counter.refused(CT1, Refused.IMAGE, f"reason {number}")
        if number % 500 == 499:
            counter.step()
    found = RefusalStore(database).all()
    assert len({one.peer for one in found}) == MOST_PEERS + 1
    assert len(found) <= MOST_PEERS + 2 * MOST_REASONS
    assert sum(one.count for one in found) == MOST_PEERS + 50 + 3000
    assert OTHER_REASONS in {one.reason for one in found}


def test_what_cannot_be_written_now_is_written_later(
    database: Database, counter: RefusalCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutOfResources("no space")

    counter.refused(CT1, Refused.IMAGE, "why")
    with monkeypatch.context() as patched:
        patched.setattr(RefusalStore, "add", full)
        with pytest.raises(OutOfResources):
            counter.step()
        counter.refused(CT1, Refused.IMAGE, "why")
        counter.close()
    counter.step()
    assert [one.count for one in RefusalStore(database).all()] == [2]


def test_status_shows_who_was_refused_and_why(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "rales.toml"
    file.write_text('[node]\ndata_dir = "var"\n')
    database = Database(tmp_path / "var" / "state.sqlite")
    counter = RefusalCounter(RefusalStore(database), clock)
    counter.refused(CT1, Refused.IMAGE, "0xC000 Pixel Data is cut off [/A]\x1b[2J")
    counter.close()
    database.close()
    shown = CliRunner().invoke(
        cli, ["status", "--config", str(file)], env={"COLUMNS": "300"}, catch_exceptions=False
    )
    assert "CT1@10.0.0.1" in shown.output
    assert r"0xC000 Pixel Data is cut off [/A]\x1b[2J" in shown.output
    (one,) = json.loads(
        CliRunner().invoke(cli, ["status", "--json", "--config", str(file)]).output
    )["refused"]
    assert (one["calling_ae"], one["address"], one["count"]) == ("CT1", "10.0.0.1", 1)
