"""Everything that is refused at the door is told to who counts it: peer, kind and reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from waiting import wait_for

from scp.admission import Admission
from scp.ports import Peer, Refused
from scp.server import RunningScp, ScpSettings, start
from scp.spool import Spool

from .conftest import MemoryIntake, Rejected, Scu, make_ct, store, to_bytes


class RefusalCounter:
    def __init__(self) -> None:
        self.seen: list[tuple[Peer, Refused, str]] = []

    def refused(self, peer: Peer, kind: Refused, reason: str) -> None:
        self.seen.append((peer, kind, reason))


@pytest.fixture
def refusals() -> RefusalCounter:
    return RefusalCounter()


@pytest.fixture
def guarded(refusals: RefusalCounter, spool: Spool, intake: MemoryIntake) -> Iterator[RunningScp]:
    settings = ScpSettings(
        ae_title="RALES",
        host="127.0.0.1",
        port=0,
        admission=Admission(callers={"SCANNER": ()}),
    )
    with start(
        settings,
        spool=spool,
        intake=intake,
        clock=lambda: datetime.now(UTC),
        refusals=refusals,
    ) as running:
        yield running


def test_a_refused_image_is_counted_and_a_stored_one_is_not(
    guarded: RunningScp, refusals: RefusalCounter
) -> None:
    image = make_ct(rows=4, columns=4)
    assert store(guarded, image).Status == 0x0000
    assert refusals.seen == []
    with Scu(guarded.port) as scu:
        answer = scu.store(to_bytes(image)[:-8], sop_instance=image.SOPInstanceUID)
    assert answer.Status == 0xC000
    ((peer, kind, reason),) = refusals.seen
    assert (peer.ae_title, peer.address, kind) == ("SCANNER", "127.0.0.1", Refused.IMAGE)
    assert reason.startswith("0xC000 ")
    assert "cut off" in reason


@pytest.mark.parametrize(
    ("titles", "said"),
    [
        ({"calling": "STRANGER"}, "Calling AE title not recognised"),
        ({"called": "RALLES"}, "asking for RALLES: Called AE title not recognised"),
    ],
)
def test_a_rejected_association_is_counted(
    titles: dict[str, str], said: str, guarded: RunningScp, refusals: RefusalCounter
) -> None:
    with pytest.raises(Rejected):
        Scu(guarded.port, **titles)
    # It is counted once the answer is sent.
    wait_for("the refusal to be counted", lambda: refusals.seen != [])
    ((peer, kind, reason),) = refusals.seen
    assert kind is Refused.ASSOCIATION
    assert peer.ae_title == titles.get("calling", "SCANNER")
    assert said in reason


def test_an_association_in_which_nothing_is_taken_is_counted(
    guarded: RunningScp, refusals: RefusalCounter
) -> None:
    with Scu(guarded.port, sop_class="1.2.840.10008.5.1.4.1.1.4") as scu:
        assert not scu.accepted
        scu.release()
    ((_, kind, reason),) = refusals.seen
    assert kind is Refused.ASSOCIATION
    assert "MR Image Storage" in reason
    with Scu(guarded.port, sop_class=CTImageStorage, syntax=ExplicitVRLittleEndian) as scu:
        assert scu.accepted
    assert len(refusals.seen) == 1
