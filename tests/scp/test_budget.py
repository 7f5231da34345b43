"""What data sets on their way may take: by one association, by all, and never for ever."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from hostile import CONTEXT_OF, Wire, command_set, message, p_data, store_command
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydicom.uid import ExplicitVRLittleEndian
from waiting import wait_for

from chestct.errors import InstanceRefused, OutOfResources
from pynetdicom_guard.arrivals import DataSetBuffer, Discarded
from pynetdicom_guard.budget import BYTES_OF_ONE_ASSOCIATION, Budget, Share
from scp.server import RunningScp
from scp.spool import Spool

from .conftest import Scu, make_ct, to_bytes

_MEGABYTE = 1 << 20


class Folder:
    """Room without end, in files."""

    def check_room(self, size: int) -> None:
        """Let everything in."""

    def temporary_file(self) -> IO[bytes]:
        """Return a file."""
        return tempfile.TemporaryFile()


def _read(buffer: DataSetBuffer) -> bytes:
    content = buffer.content()
    return content[: len(content)]


class BudgetMachine(RuleBasedStateMachine):
    """Associations write, end and are cut off in any order; the books are compared with them."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(4 * _MEGABYTE)
        self.shares = [Share(self.budget, memory=100) for _ in range(3)]
        self.open: list[tuple[int, DataSetBuffer, bytes]] = []

    @rule(share=st.integers(0, 2), limit=st.sampled_from([50, 3000, 3 * _MEGABYTE]))
    def begin(self, share: int, limit: int) -> None:
        buffer = DataSetBuffer(limit, self.shares[share], Folder())
        self.open.append((share, buffer, b""))

    @rule(which=st.integers(0, 9), size=st.sampled_from([0, 1, 40, 99, 100, 2000, 1500 * 1024]))
    def write(self, which: int, size: int) -> None:
        if self.open:
            share, buffer, written = self.open[which % len(self.open)]
            part = bytes([len(written) % 251]) * size
            assert buffer.write(part) == size
            self.open[which % len(self.open)] = share, buffer, written + part

    @rule(which=st.integers(0, 9))
    def end(self, which: int) -> None:
        """It is answered: what was not lost is there byte for byte."""
        if self.open:
            _, buffer, written = self.open.pop(which % len(self.open))
            if buffer.discarded is None:
                assert _read(buffer) == written
            else:
                with pytest.raises((InstanceRefused, OutOfResources)):
                    buffer.content()
            buffer.release()
            buffer.release()
            buffer.write(b"too late")

    @rule(which=st.integers(0, 9))
    def forget(self, which: int) -> None:
        """Nobody answers it: pynetdicom drops it somewhere."""
        if self.open:
            del self.open[which % len(self.open)]

    @invariant()
    def the_books_are_right(self) -> None:
        kept = [(share, len(content)) for share, one, content in self.open if one.discarded is None]
        in_memory = [
            sum(one.getbuffer().nbytes for own, one, _ in self.open if own == share)
            for share in range(3)
        ]
        for share, size in zip(self.shares, in_memory, strict=True):
            assert share.memory.taken == size <= 100
        on_disk = sum(size for _, size in kept) - sum(in_memory)
        assert on_disk <= self.budget.taken <= 4 * _MEGABYTE
        assert self.budget.taken <= on_disk + len(kept) * _MEGABYTE
        if not self.open:
            assert self.budget.taken == 0


TestBudgetMachine = BudgetMachine.TestCase


def test_a_data_set_that_trickles_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sooner, for its size, where it holds what others could use."""
    shared, own = (DataSetBuffer(1 << 22, Share(Budget(1 << 23)), Folder()) for _ in range(2))
    own.write(bytes(100_000))
    shared.write(bytes(BYTES_OF_ONE_ASSOCIATION + 1))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 50)
    assert not own.is_too_slow()
    assert not shared.is_too_slow()
    monkeypatch.setattr(time, "monotonic", lambda: now + 70)
    assert not own.is_too_slow()
    assert not shared.is_too_slow()
    monkeypatch.setattr(time, "monotonic", lambda: now + 300)
    assert own.is_too_slow()
    assert shared.is_too_slow()


class FullDisk(Folder):
    """A disk below its reserve."""

    def check_room(self, size: int) -> None:
        """Refuse."""
        raise OutOfResources(f"no room for {size}")


def test_a_full_disk_costs_the_data_set_alone() -> None:
    budget = Budget(1 << 30)
    buffer = DataSetBuffer(1 << 30, Share(budget), FullDisk())
    buffer.write(bytes(BYTES_OF_ONE_ASSOCIATION + 1))
    assert buffer.discarded is Discarded.NO_SPACE
    assert budget.taken == 0
    with pytest.raises(OutOfResources, match="free space"):
        buffer.content()


def _hold(port: int, size: int) -> Wire:
    """Return a connection in the middle of an object, ``size`` bytes of which were sent."""
    wire = Wire(port, seconds=30)
    wire.establish()
    context = CONTEXT_OF[ExplicitVRLittleEndian]
    command = command_set(store_command(instance=b"1.2.3.4"))
    part = p_data(bytes(1 << 16), control=0, context=context)
    wire.send(message(command, None, context=context) + part * (size >> 16))
    return wire


def _store(port: int, size: int) -> tuple[int, str]:
    """Send an image of ``size`` bytes of pixels; return status and comment."""
    side = 1024
    dataset = make_ct(rows=size // side // 2, columns=side, SOPInstanceUID=f"1.2.{size}")
    with Scu(port, syntax=ExplicitVRLittleEndian, sop_class=dataset.SOPClassUID) as scu:
        answer = scu.store(
            to_bytes(dataset),
            sop_class=dataset.SOPClassUID,
            sop_instance=dataset.SOPInstanceUID,
        )
    return answer.Status, str(answer.get("ErrorComment", ""))


_ENDS: dict[str, Callable[[Wire], None]] = {
    "cut": lambda wire: wire.socket.close(),
    "aborted": lambda wire: wire.send(b"\x07\0\0\0\0\x04\0\0\0\0"),
    "nonsense": lambda wire: wire.send(b"\xff" * 100),
}


@pytest.mark.parametrize("how", _ENDS)
def test_beyond_the_budget_is_refused_for_now_and_kept_when_sent_again(
    serve: Callable[..., RunningScp], spool: Spool, tmp_path: Path, how: str
) -> None:
    """A stranger in the middle of large objects holds it; an image of the usual size gets in."""
    port = serve(maximum_arriving=6 * _MEGABYTE).port
    with ExitStack() as stack:
        held = [stack.enter_context(_hold(port, 3 * _MEGABYTE)) for _ in range(2)]
        wait_for("the memory to be taken", lambda: _store(port, 2 * _MEGABYTE)[0] == 0xA700)
        status, comment = _store(port, 2 * _MEGABYTE)
        assert (status, "maximum_arriving_mb" in comment) == (0xA700, True)
        assert _store(port, _MEGABYTE // 2) == (0, "")
        for wire in held:
            _ENDS[how](wire)
        wait_for("the memory to be given back", lambda: _store(port, 2 * _MEGABYTE)[0] == 0)
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert max(path.stat().st_size for path in files) > 2 * _MEGABYTE


def test_a_large_image_is_stored_byte_for_byte(node: RunningScp, tmp_path: Path) -> None:
    assert _store(node.port, 5 * _MEGABYTE) == (0, "")
    (path,) = (tmp_path / "spool").rglob("*.dcm")
    whole = to_bytes(make_ct(rows=5 * 512, columns=1024, SOPInstanceUID=f"1.2.{5 * _MEGABYTE}"))
    assert path.read_bytes().endswith(whole)
    assert _store(node.port, 5 * _MEGABYTE) == (0, "")
