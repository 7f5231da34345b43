"""What a crash cuts off: an acknowledged instance has its row again after the next start."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import receiving_child
from click.testing import CliRunner
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from spool_rig import SpoolRig, image, spool_rig
from state_rig import NOON

from chestct.errors import OutOfResources
from pynetdicom_guard.reactor_gate import park_reactor, put_gate
from rales.cli import cli
from rales.node import cut_off
from rales.node.cut_off import CutOff, record_cut_off
from rales.state.layout import Layout
from rales.state.store import Database, GroupedIntake
from rales.state.store.clock import ClockStore
from scp.durable import fsync_keeps_names
from scp.server import ScpSettings, start
from scp.spool import holds

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SERIES = "1.2.3"
_FOREVER = "3600"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SpoolRig]:
    yield from spool_rig(tmp_path)


def _restart(rig: SpoolRig) -> CutOff:
    return record_cut_off(rig.database, rig.layout, since=NOON)


def test_rows_are_made_again_from_the_files_alone(rig: SpoolRig) -> None:
    rig.receive(SERIES, 3)
    lost = [rig.write(SERIES, number) for number in range(3, 6)]
    lost += [rig.write("1.2.4", number, accession="A1") for number in range(2)]
    assert _restart(rig) == CutOff(recorded=5)
    rows = {
        instance.sop_instance_uid: instance
        for series in (lost[0].series_uid, lost[-1].series_uid)
        for instance in rig.instances.of_series(series)
    }
    assert len(rows) == 8
    for instance in lost:
        # The accession key is in the row of the job.
        expected = replace(instance, written=False, accession_key="")
        assert rows[instance.sop_instance_uid] == expected
    (job,) = rig.database.rows("SELECT accession_key FROM jobs WHERE series_uid = '1.2.4'")
    assert job["accession_key"] == lost[-1].accession_key
    assert job["accession_key"]
    assert _restart(rig) == CutOff()


def test_a_torn_file_waits_for_a_resend_and_the_others_are_recorded(rig: SpoolRig) -> None:
    whole, torn, empty = (rig.write(SERIES, number) for number in range(3))
    torn.path.write_bytes(torn.path.read_bytes()[:-1])
    empty.path.write_bytes(b"")
    assert _restart(rig) == CutOff(recorded=1, torn=2)
    assert [row.path for row in rig.instances.of_series(whole.series_uid)] == [whole.path]
    assert rig.quarantined() == set()
    rig.receive(SERIES, 2, first=1)
    assert len(rig.instances.of_series(whole.series_uid)) == 3
    assert all(holds(again.path, again.content_digest) for again in (torn, empty))


def test_of_two_contents_under_one_uid_the_later_counts(rig: SpoolRig) -> None:
    first = rig.write(SERIES, 1)
    second = rig.write(SERIES, 1, accession="other")
    late = (NOON + timedelta(seconds=1)).timestamp()
    os.utime(second.path, (late, late))
    assert _restart(rig).recorded == 2
    (current,) = rig.instances.of_series(first.series_uid)
    assert current.content_digest == second.content_digest


def test_more_files_than_a_backlog_holds_are_left_to_a_person(
    rig: SpoolRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cut_off, "BACKLOG", 3)
    rig.receive(SERIES, 2)
    for number in range(2, 6):
        rig.write(SERIES, number)
    before = rig.files()
    assert _restart(rig) == CutOff()
    assert "rales fsck --rebuild" in caplog.text
    assert rig.files() == before


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_recorded(rig: SpoolRig) -> None:
    kept = rig.write(SERIES, 1)
    (kept.path.parent / f"{'0' * 64}.dcm").mkdir()
    (kept.path.parent / f"{'1' * 64}.dcm").symlink_to("nothing")
    assert _restart(rig) == CutOff(recorded=1, torn=2)
    assert [row.path for row in rig.instances.of_series(kept.series_uid)] == [kept.path]


def test_refused_instances_leave_no_files_beside_those_that_were_acknowledged(
    rig: SpoolRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_off, "BACKLOG", 3)
    ClockStore(rig.database).note_running(NOON)
    intake = GroupedIntake(rig.database, rig.instances, delay_seconds=float(_FOREVER))
    settings = ScpSettings(ae_title="RALES", host="127.0.0.1", port=0)
    with (
        closing(intake),
        start(settings, spool=rig.spool, intake=intake, clock=lambda: NOON) as scp,
        _Sender.to(scp.port) as sender,
    ):
        assert all(sender.send(number) for number in range(2))
        rig.database.rows("PRAGMA query_only=ON")
        with pytest.raises(OutOfResources):
            intake.flush()
        assert not any(sender.send(number) for number in range(2, 8))
        assert len(rig.files()) == 2
        # A crash here: the next start opens the state file anew.
        with closing(Database(rig.layout.state)) as database:
            assert record_cut_off(database, rig.layout, since=NOON) == CutOff(recorded=2)
        rig.database.rows("PRAGMA query_only=OFF")


def test_only_folders_that_changed_since_are_read(rig: SpoolRig) -> None:
    old = rig.write(SERIES, 1).path
    rig.write("1.2.4", 1)
    before = (NOON - timedelta(days=1)).timestamp()
    os.utime(old.parent, (before, before))
    assert _restart(rig).recorded == 1
    assert record_cut_off(rig.database, rig.layout, since=None) == CutOff()


def test_a_repair_records_what_was_acknowledged_and_moves_it_nowhere(rig: SpoolRig) -> None:
    ClockStore(rig.database).note_running(NOON)
    kept = rig.write(SERIES, 1)
    config = rig.folder / "rales.toml"
    config.write_text(f'[node]\ndata_dir = "{rig.folder}"\n', encoding="utf-8")
    result = CliRunner().invoke(cli, ["fsck", "--config", str(config), "--repair"])
    assert result.exit_code == 0, result.output
    assert [row.path for row in rig.instances.of_series(kept.series_uid)] == [kept.path]
    assert rig.quarantined() == set()


# ---------------------------------------------------------------- a process that is killed


class _Receiver:
    """A receiver in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.port, self.pid = map(int, process.stdout.readline().split())

    def kill(self) -> None:
        """End it at once; what traces it ends with it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    @contextmanager
    def sender(self) -> Iterator[_Sender]:
        """Open an association; it is aborted at the end, for a release commits the backlog."""
        with _Sender.to(self.port) as sender:
            yield sender


class _Sender:
    def __init__(self, association: Association) -> None:
        self._association = association
        self.acknowledged: set[str] = set()

    @classmethod
    @contextmanager
    def to(cls, port: int) -> Iterator[_Sender]:
        """Open an association to a port; abort it at the end."""
        ae = ApplicationEntity(ae_title="CT7")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        handlers: Any = [(evt.EVT_CONN_OPEN, lambda event: put_gate(event.assoc))]
        association = ae.associate("127.0.0.1", port, ae_title="RALES", evt_handlers=handlers)
        assert association.is_established
        try:
            yield cls(association)
        finally:
            association.abort()

    def send(self, number: int, *, accession: str = "", series: str = SERIES) -> bool:
        """Send one image; return whether it was acknowledged."""
        dataset = pydicom.dcmread(BytesIO(image(series, number, accession=accession)), force=True)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if not park_reactor(self._association):
            return False
        try:
            answer = self._association.send_c_store(dataset)
        except (RuntimeError, ValueError):
            return False
        if answer.get("Status") != 0:
            return False
        self.acknowledged.add(dataset.SOPInstanceUID)
        return True


@contextmanager
def _receiver(
    folder: Path,
    *,
    step: str = "never",
    number: int = 1,
    delay: str = _FOREVER,
    wrap: tuple[str, ...] = (),
) -> Iterator[_Receiver]:
    command = [
        *wrap,
        sys.executable,
        receiving_child.__file__,
        str(folder),
        step,
        str(number),
        delay,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        receiver = _Receiver(process)
        try:
            yield receiver
        finally:
            receiver.kill()


def _after_the_start(folder: Path) -> dict[str, tuple[str, Path, str]]:
    """Return the rows after a start, by SOP Instance UID: calling AE title, file, digest."""
    layout = Layout(folder)
    with closing(Database(layout.state)) as database:
        record_cut_off(database, layout, since=ClockStore(database).seen())
        return {
            row["sop_instance_uid"]: (
                row["calling_ae"],
                database.file_of(row["path"]),
                row["content_digest"],
            )
            for row in database.rows("SELECT * FROM instances WHERE current = 1")
        }


def test_a_kill_between_answer_and_commit_loses_no_row(tmp_path: Path) -> None:
    with _receiver(tmp_path) as receiver, receiver.sender() as sender:
        assert all(sender.send(number) for number in range(10))
        with closing(Database(Layout(tmp_path).state)) as database:
            assert database.rows("SELECT * FROM instances") == []
        receiver.kill()
    rows = _after_the_start(tmp_path)
    assert rows.keys() == sender.acknowledged
    assert {calling for calling, _, _ in rows.values()} == {"CT7"}
    assert all(holds(path, digest) for _, path, digest in rows.values())


@pytest.mark.parametrize("step", receiving_child.STEPS)
def test_a_kill_between_two_steps_loses_nothing_acknowledged(tmp_path: Path, step: str) -> None:
    with (
        _receiver(tmp_path, step=step, number=5) as receiver,
        receiver.sender() as sender,
    ):
        while sender.send(len(sender.acknowledged)):
            assert len(sender.acknowledged) < 20
    rows = _after_the_start(tmp_path)
    assert len(sender.acknowledged) >= 2
    assert sender.acknowledged <= rows.keys()
    assert all(holds(path, digest) for _, path, digest in rows.values())
    with _receiver(tmp_path) as receiver, receiver.sender() as again:
        assert all(again.send(number) for number in range(10)), "a resend heals"


def test_a_kill_keeps_what_came_last_under_one_uid(tmp_path: Path) -> None:
    with _receiver(tmp_path) as receiver, receiver.sender() as sender:
        assert sender.send(1)
        assert sender.send(1, accession="other")
        assert sender.send(1)
    ((_, path, _),) = _after_the_start(tmp_path).values()
    assert pydicom.dcmread(path).AccessionNumber == ""


_STRACE = ("strace", "-f", "-y", "-e", "trace=fsync,fdatasync,rename,sendto,sendmsg,write", "-o")


def _can_trace() -> bool:
    if not shutil.which("strace"):
        return False
    command = ["strace", "-o", "/dev/null", "true"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _completed(log: str) -> list[str]:
    """Return the system calls in the order in which they completed."""
    begun: dict[str, str] = {}
    calls = []
    for line in log.splitlines():
        thread, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.strip().removesuffix("<unfinished ...>")
        elif resumed := re.match(r"\s*<\.\.\. \w+ resumed>(.*)", call):
            calls.append(begun.pop(thread, "") + resumed[1])
        else:
            calls.append(call.strip())
    return calls


def _places(pattern: str, calls: list[str]) -> list[int]:
    return [place for place, call in enumerate(calls) if re.match(pattern, call)]


@pytest.mark.skipif(not _can_trace(), reason="needs strace")
def test_each_answer_waits_for_one_fsync_and_rows_share_a_commit(tmp_path: Path) -> None:
    log, count = tmp_path / "strace.log", 12
    with (
        _receiver(tmp_path / "data", wrap=(*_STRACE, str(log)), delay="0.2") as receiver,
        receiver.sender() as sender,
    ):
        before = len(log.read_text().splitlines())
        assert all(sender.send(number) for number in range(count))
    calls = _completed("\n".join(log.read_text().splitlines()[before:]))
    synced = [
        place for place, call in enumerate(calls) if re.match(r"fsync\(.*\.dcm>\) += 0", call)
    ]
    named = [place for place, call in enumerate(calls) if call.startswith("rename(")]
    answers = [
        place
        for place, call in enumerate(calls)
        if re.match(r"(sendto|sendmsg|write)\(\d+<(TCP|socket)", call)
    ]
    assert len(synced) == len(named) == count
    for rename, fsync in zip(named, synced, strict=True):
        answer = next(place for place in answers if place > rename)
        assert rename < fsync < answer
    if fsync_keeps_names(tmp_path):
        assert _places(r"fsync\(.*spool[^.]*>\)", calls) == []
    assert len(_places(r"f(data)?sync\(.*state\.sqlite", calls)) < count / 2
