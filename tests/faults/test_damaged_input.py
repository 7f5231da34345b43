"""Images that the disk lost or damaged: nobody else is blamed, and a resend goes on from there."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from fakes import InlineWorker
from state_rig import NOON, StateRig
from tiny_node import (
    StoringPacs,
    TinyNode,
    TinySeries,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from chestct.errors import InputUnavailable
from chestct.method import Method
from chestct.series import ReceivedInstance, Series
from chestct.states import JobState
from chestct.uids import derive_uid
from inference.loading import stored_images
from inference.loading.rules import EligibilityRules
from inference.loading.stored_images import read_series
from rales.analysis.intact import require_intact
from rales.analysis.settings import AnalysisSettings
from rales.state.results import load_objects
from rales.state.store import Database, Job
from rales.steps.analyse import AnalysisWorker
from rales.steps.retry import retry
from scp.headers import parse
from scp.ports import Recorded
from scp.spool import GROUP_LENGTH_AT, Spool
from scp.stored import instance_of

_ATTEMPTS = 2
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Chest:
    """One series on disk, and networks that find its lungs."""

    series: TinySeries
    models: Path


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Chest:
    folder = tmp_path_factory.mktemp("chest")
    thorax = tiny_thorax()
    return Chest(
        write_tiny_series(thorax, folder, "PATIENT"), write_models(folder / "models", thorax)
    )


class Rig(StateRig):
    """Spool, state file and analysis as in the node, in one thread."""

    def __init__(self, folder: Path, chest: Chest) -> None:
        self.chest = chest
        super().__init__(Database(folder / "state.sqlite"))
        self.spool = Spool(folder / "spool")
        self.worker = AnalysisWorker(
            jobs=self.jobs,
            instances=self.instances,
            settings=AnalysisSettings(
                rules=EligibilityRules(),
                method=Method(),
                minimum_lesion_ml=None,
                models_dir=chest.models,
                providers=("CPU",),
                threads=1,
                station_name="RALES",
            ),
            results_dir=folder / "results",
            attempts=_ATTEMPTS,
            process=InlineWorker(),
            clock=self.clock,
            on_composed=lambda: None,
        )

    def receive(self, file: Path) -> tuple[ReceivedInstance, Recorded]:
        whole = file.read_bytes()
        start = GROUP_LENGTH_AT + 4
        start += int.from_bytes(whole[GROUP_LENGTH_AT:start], "little")
        header = parse(whole[start:], EXPLICIT)
        instance = instance_of(
            header,
            self.spool.write(header.series_uid, whole[:start], whole[start:]),
            transfer_syntax=EXPLICIT,
            received_at=self.clock(),
            calling_ae="CT",
        )
        return instance, self.instances.record(instance)

    def receive_all(self) -> list[ReceivedInstance]:
        return [self.receive(file)[0] for file in self.chest.series.files]

    def ready(self, *, hold_until: datetime | None = None) -> list[ReceivedInstance]:
        received = self.receive_all()
        self.mark_ready(received[0].series_uid, hold_until=hold_until)
        return received

    @property
    def job(self) -> Job:
        return self.newest(self.chest.series.uid)

    def analyse(self, attempts: int = 1) -> Job:
        for _ in range(attempts):
            self.worker.step(self.clock.advance(100))
        return self.job


@pytest.fixture
def rig(tmp_path: Path, chest: Chest) -> Iterator[Rig]:
    made = Rig(tmp_path, chest)
    yield made
    made.database.close()


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _shorten_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def _flip_header(path: Path) -> None:
    """Make it "CX" what was a CT: a good reader would reject the series for it."""
    content = path.read_bytes()
    place = content.index(b"\x08\x00\x60\x00CS\x02\x00CT") + 9
    path.write_bytes(content[:place] + b"X" + content[place + 1 :])


def _flip_pixel(path: Path) -> None:
    """Change what no reader would stumble over."""
    content = bytearray(path.read_bytes())
    content[-100] ^= 0x10
    path.write_bytes(content)


def _flip_syntax(path: Path) -> None:
    """Damage the file meta information alone."""
    content = path.read_bytes()
    path.write_bytes(content.replace(EXPLICIT.encode(), b"1.2.840.10008.1.2.9", 1))


_DAMAGE = {
    "lost": (Path.unlink, "missing"),
    "cut off": (_shorten, "damaged"),
    "another header": (_flip_header, "damaged"),
    "another pixel": (_flip_pixel, "damaged"),
    "another syntax": (_flip_syntax, "damaged"),
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_file_that_is_not_as_it_was_received_is_no_fault_of_the_series(
    rig: Rig, damage: str
) -> None:
    act, word = _DAMAGE[damage]
    received = rig.ready()
    act(received[3].path)
    waiting = rig.analyse()
    assert (waiting.state, waiting.attempts) == (JobState.READY, 1)
    failed = rig.analyse()
    assert (failed.state, failed.reason) == (JobState.FAILED, "input-unavailable")
    assert f"1 of {len(received)} images" in failed.message
    assert word in failed.message
    assert received[3].path.name in failed.message
    assert "sent again" in failed.message


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_resend_puts_the_file_back_and_the_job_goes_on(rig: Rig, damage: str) -> None:
    act, _ = _DAMAGE[damage]
    received = rig.ready()
    act(received[3].path)
    act(received[7].path)
    assert rig.analyse(_ATTEMPTS).state is JobState.FAILED
    assert rig.receive(rig.chest.series.files[3])[1] is Recorded.REPEATED
    assert rig.job.state is JobState.FAILED, "another image is still missing"
    assert rig.receive(rig.chest.series.files[7])[1] is Recorded.REPEATED
    assert (rig.job.state, rig.job.attempts) == (JobState.READY, 0)
    done = rig.analyse()
    assert (done.state, done.revision) == (JobState.COMPOSED, 1)


def test_what_may_be_a_part_does_not_end_for_a_file_that_is_missing(rig: Rig) -> None:
    received = rig.ready(hold_until=NOON + timedelta(hours=1))
    received[3].path.unlink()
    waiting = rig.analyse(_ATTEMPTS)
    assert (waiting.state, waiting.attempts, waiting.reason) == (JobState.RECEIVING, 0, "")
    assert "1 of" in waiting.message
    rig.mark_ready(waiting.series_uid)
    assert rig.analyse(_ATTEMPTS).state is JobState.FAILED, "it was a whole one"


def test_a_later_revision_takes_over_from_one_whose_file_is_missing(rig: Rig) -> None:
    received = rig.ready()
    received[3].path.unlink()
    rig.analyse(_ATTEMPTS - 1)
    last = rig.jobs.claim(at=rig.clock.advance(100))
    assert last is not None
    late = replace(received[0], content_digest="new", value_digest="new")
    rig.instances.record(replace(late, sop_instance_uid=derive_uid("late")))
    state = rig.instances.unavailable(
        last, [received[3].sop_instance_uid], due_at=None, at=rig.clock(), message="missing"
    )
    assert state is JobState.SUPERSEDED
    assert [job.state for job in rig.jobs.all()] == [JobState.SUPERSEDED, JobState.RECEIVING]


@pytest.mark.parametrize("held", [True, False])
def test_kills_do_not_end_a_series_that_may_be_a_part(rig: Rig, *, held: bool) -> None:
    rig.ready(hold_until=NOON + timedelta(hours=1 if held else -1))
    assert rig.jobs.claim(at=rig.clock.advance(100)) is not None
    rig.jobs.recover(interruptions=1, at=rig.clock())
    expected = (JobState.RECEIVING, "") if held else (JobState.FAILED, "interrupted")
    assert (rig.job.state, rig.job.reason) == expected


def test_a_resend_that_changes_nothing_starts_nothing(rig: Rig) -> None:
    received = rig.ready()
    received[3].path.unlink()
    failed = rig.analyse(_ATTEMPTS)
    for number in (0, 1, 2):
        assert rig.receive(rig.chest.series.files[number])[1] is Recorded.REPEATED
    assert rig.job == failed
    rig.receive(rig.chest.series.files[3])
    done = rig.analyse()
    rig.receive_all()
    assert rig.job == done
    assert done.state is JobState.COMPOSED


def test_an_image_that_comes_again_during_the_last_attempt_is_not_too_late(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = rig.ready()
    received[3].path.unlink()
    rig.analyse(_ATTEMPTS - 1)
    last = rig.jobs.claim(at=rig.clock.advance(100))
    assert last is not None
    stored = read_series(Series.of(rig.instances.of_series(last.series_uid)))
    with pytest.raises(InputUnavailable) as caught:
        require_intact(stored.images)
    rig.receive(rig.chest.series.files[3])
    state = rig.instances.unavailable(
        last, caught.value.images, due_at=None, at=rig.clock(), message="too late"
    )
    assert state is JobState.READY
    assert rig.analyse().state is JobState.COMPOSED


def test_an_image_that_comes_again_ends_the_wait_for_the_next_attempt(rig: Rig) -> None:
    received = rig.ready()
    received[3].path.unlink()
    waiting = rig.analyse()
    assert waiting.due_at is not None
    rig.receive(rig.chest.series.files[3])
    assert rig.job.due_at is not None
    assert rig.job.due_at < waiting.due_at
    assert rig.job.attempts == 0
    assert rig.analyse().state is JobState.COMPOSED


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_an_error_of_the_system_passes_and_a_resend_starts_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    received = rig.ready()
    opened = Path.open

    def fail(path: Path, *arguments: object, **options: object) -> object:
        if path == received[5].path:
            raise OSError(number, "so says the system", str(path))
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fail)
        failed = rig.analyse(_ATTEMPTS)
    assert (failed.state, failed.reason) == (JobState.FAILED, "input-unavailable")
    assert "1 unreadable (so says the system)" in failed.message
    rig.receive_all()
    assert rig.analyse().state is JobState.COMPOSED


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), MemoryError()])
def test_no_error_of_the_system_rejects_while_the_images_are_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rig.ready()

    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(stored_images.pydicom, "dcmread", fail)
        assert rig.analyse().state is JobState.READY
        assert rig.analyse().state is JobState.FAILED
    assert rig.job.reason in {"input-unavailable", "out-of-memory"}


def test_a_verdict_over_damaged_bytes_of_an_older_version_does_not_stand(rig: Rig) -> None:
    received = rig.ready()
    job = rig.jobs.claim(at=NOON)
    assert job is not None
    rig.jobs.move(job, JobState.REJECTED, at=NOON, message="unreadable", reason="bad-pixels")
    received[3].path.unlink()
    rig.receive(rig.chest.series.files[4])
    assert rig.job.state is JobState.REJECTED, "that image was whole"
    rig.receive(rig.chest.series.files[3])
    assert rig.analyse().state is JobState.COMPOSED


def test_a_series_that_was_rejected_as_it_was_received_stays_so(rig: Rig) -> None:
    rig.ready()
    rig.worker._settings = replace(rig.worker._settings, rules=EligibilityRules(minimum_slices=100))
    rejected = rig.analyse()
    assert rejected.state is JobState.REJECTED
    rig.receive_all()
    assert rig.job == rejected


@pytest.mark.parametrize("damage", [Path.unlink, _shorten_to_nothing])
def test_retry_of_results_that_are_lost_makes_the_same_again(
    rig: Rig, damage: Callable[[Path], object]
) -> None:
    rig.ready()
    done = rig.analyse()
    before = {item.path: item.path.read_bytes() for item in load_objects(done)}
    rig.jobs.move(done, JobState.DELIVERING, at=rig.clock(), message="")
    rig.jobs.move(rig.job, JobState.DONE, at=rig.clock(), message="")
    assert retry(rig.jobs, rig.job, at=rig.clock()) is JobState.COMPOSED, "nothing is lost"
    rig.jobs.move(rig.job, JobState.DELIVERING, at=rig.clock(), message="")
    rig.jobs.move(rig.job, JobState.DONE, at=rig.clock(), message="")
    damage(next(iter(before)))
    assert retry(rig.jobs, rig.job, at=rig.clock()) is JobState.READY
    assert rig.analyse().state is JobState.COMPOSED
    assert {item.path: item.path.read_bytes() for item in load_objects(rig.job)} == before


def test_over_the_network_a_lost_image_is_named_and_a_resend_brings_the_results(
    chest: Chest, tmp_path: Path
) -> None:
    pacs = StoringPacs()
    node = TinyNode(tmp_path, chest.models, [pacs.start()], extra="attempts = 1\n")
    files, uid = chest.series.files, chest.series.uid
    try:
        node.start()
        assert send_files(node.port, [*files[:5], *files[6:]], set())
        lost = str(pydicom.dcmread(files[2]).SOPInstanceUID)
        ((place,),) = node.rows("SELECT path FROM instances WHERE sop_instance_uid = ?", lost)
        (tmp_path / "data" / place).unlink()
        assert send_files(node.port, [files[5]], set())
        assert node.ended(uid) == "failed"
        assert node.jobs(uid) == [("failed", "input-unavailable")]
        assert send_files(node.port, files, set())
        wait_for("the results", lambda: node.jobs(uid) == [("done", "")])
        objects = pacs.of_series(uid)
        assert (len(objects["SEG"]), len(objects["SR"])) == (1, 1)
    finally:
        node.end()
        pacs.stop()
