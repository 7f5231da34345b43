"""Hundreds of hostile inputs for one real node over real sockets: it stays, and stays right.

The corpus is in tests/support: hostile_pdus.py, hostile_messages.py, hostile_datasets.py.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import hostile_datasets
import hostile_messages
import hostile_pdus
import pydicom
import pytest
from hostile import Attack, Fate, Wire, echo
from node_process import ENDED
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from chestct.errors import RejectReason
from scp import headers

ECHO_SECONDS = 10.0
"""The promise is one second (bench/siege.py); a busy machine must not make a test fail."""
ANSWER_SECONDS = 60.0
_PROMISED_PLACES = [
    Path(path)
    for path in ("/tmp/x", "/etc/cron.d/x", "/etc/cron.d/rales", "/etc/cron.d/x.dcm", "/tmp/x.dcm")  # noqa: S108
]
"""Where a path made of a hostile UID would have led."""

_LISTS = {
    "pdus": hostile_pdus.attacks(),
    "messages": hostile_messages.attacks(),
    "data sets": hostile_datasets.attacks(),
}


@dataclass
class Siege:
    """The node under attack, and what it has acknowledged."""

    root: Path
    elsewhere: Path
    node: TinyNode
    pacs: StoringPacs
    acknowledged: list[bytes] = field(default_factory=list)
    threads_before: int = 0
    sockets_before: int = 0

    @property
    def spool(self) -> Path:
        """Where the node keeps what it received."""
        return self.node.folder / "data" / "spool"

    def threads(self) -> int:
        """Return how many threads the node has."""
        return len(list(Path(f"/proc/{self._pid}/task").iterdir()))

    def sockets(self) -> int:
        """Return how many sockets the node has open."""
        folder = Path(f"/proc/{self._pid}/fd")
        found = 0
        for one in folder.iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found += "socket:" in str(one.readlink())
        return found

    @property
    def _pid(self) -> int:
        assert self.node.process is not None
        return self.node.process.pid

    def attack(self, attack: Attack) -> str | None:
        """Send one attack; return what is wrong with what the node made of it."""
        with Wire(self.node.port, seconds=ANSWER_SECONDS) as wire:
            if attack.established:
                wire.establish()
            wire.send(attack.payload)
            trouble = self._judge(attack, wire)
        echo(self.node.port, seconds=ECHO_SECONDS)
        assert self.node.process is not None
        if self.node.process.poll() is not None:
            return f"the node died\n{self.node.log()[-2000:]}"
        return trouble

    def _judge(self, attack: Attack, wire: Wire) -> str | None:
        if attack.fate is Fate.SURVIVED:
            return self._survived(attack, wire)
        if attack.fate is Fate.ENDED:
            while True:
                try:
                    kind, _ = wire.read()
                except TimeoutError:
                    return "the node neither answered nor hung up"
                if kind in {0, 7}:
                    return None
        try:
            status = wire.status()
        except TimeoutError:
            return "the node did not answer"
        if status == 0 and attack.content is not None:
            self.acknowledged.append(attack.content)
        ended = status is None
        allowed = {
            Fate.TAKEN: status == 0,
            Fate.REFUSED: status is not None and (status == 0x0122 or status >= 0xA000),
            Fate.ENDED_OR_REFUSED: ended or status != 0,
        }
        if not ended:
            wire.release()
        return None if allowed[attack.fate] else f"answered {status}"

    def _survived(self, attack: Attack, wire: Wire) -> str | None:
        """Look at what comes at once, if anything does; then hang up."""
        wire.hurry()
        try:
            status = wire.status()
        except (TimeoutError, AssertionError):
            return None
        if status == 0 and attack.content is not None:
            self.acknowledged.append(attack.content)
        return None


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """Give every test of this file the same node: the later ones look at what the attacks left."""
    root = tmp_path_factory.mktemp("siege")
    (root / "node").mkdir()
    pacs = StoringPacs()
    destination = pacs.start()
    node = TinyNode(root / "node", write_models(root / "models", tiny_thorax()), [destination])
    node.start()
    made = Siege(root=root, elsewhere=tmp_path_factory.mktemp("good"), node=node, pacs=pacs)
    made.threads_before, made.sockets_before = made.threads(), made.sockets()
    try:
        yield made
    finally:
        node.kill()
        pacs.stop()


def test_there_are_more_than_500_and_no_name_twice() -> None:
    names = Counter(attack.name for attacks in _LISTS.values() for attack in attacks)
    assert len(names) > 500
    assert not [name for name, times in names.items() if times > 1]


@pytest.mark.parametrize("kind", _LISTS)
def test_the_node_stays_and_answers_after_each(siege: Siege, kind: str) -> None:
    wrong = {attack.name: siege.attack(attack) for attack in _LISTS[kind]}
    assert {name: what for name, what in wrong.items() if what} == {}


@pytest.mark.filterwarnings("ignore::UserWarning")  # character sets that are none
def test_what_was_acknowledged_is_stored_and_whole_and_nothing_else_is(siege: Siege) -> None:
    files = {path.stem: path for path in siege.spool.rglob("*") if path.is_file()}
    digests = {hashlib.sha256(content).hexdigest() for content in siege.acknowledged}
    sent = {
        hashlib.sha256(attack.content).hexdigest()
        for attacks in _LISTS.values()
        for attack in attacks
        if attack.content is not None
    }
    # Who hung up before the answer may have left something that is stored and recorded.
    assert digests <= set(files) <= sent
    assert not [path for path in files.values() if path.suffix != ".dcm"]
    for path in files.values():
        dataset = pydicom.dcmread(path)
        content = path.read_bytes()[_content_at(path) :]
        assert hashlib.sha256(content).hexdigest() == path.stem
        headers.parse(content, dataset.file_meta.TransferSyntaxUID)
        assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    rows = siege.node.rows("SELECT content_digest FROM instances")
    assert {row[0] for row in rows} == set(files)


def _content_at(path: Path) -> int:
    """Return where the data set begins: behind the file meta information of stated length."""
    with path.open("rb") as file:
        return 144 + struct.unpack("<L", file.read(144)[140:])[0]


def test_no_file_lies_outside_of_the_data_directory(siege: Siege) -> None:
    folder = siege.node.folder
    assert {path.name for path in folder.iterdir()} == {"data", "rales.toml", "rales.log"}
    assert {path.name for path in siege.root.iterdir()} == {"node", "models"}
    assert {path for path in _PROMISED_PLACES if path.exists()} == set()


def test_each_image_that_was_taken_is_refused_with_a_reason(siege: Siege) -> None:
    """Each announces that it is a whole series: it is analysed at once."""

    def outcomes() -> list[tuple[str, str]]:
        rows = siege.node.rows("SELECT state, reason FROM jobs")
        return rows if all(state in ENDED for state, _ in rows) else []

    ended = wait_for("the end of every series", outcomes) if siege.acknowledged else []
    assert {state for state, _ in ended} <= {"rejected"}
    assert {reason for _, reason in ended} <= {str(reason) for reason in RejectReason}


def test_nothing_is_held_and_nothing_was_unforeseen(siege: Siege) -> None:
    wait_for("the threads to end", lambda: siege.threads() <= siege.threads_before)
    wait_for("the sockets to be closed", lambda: siege.sockets() <= siege.sockets_before)
    log = siege.node.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 200 :][:3000]
    assert "unexpected" not in log


def test_a_good_series_is_still_answered(siege: Siege) -> None:
    good = write_tiny_series(tiny_thorax(), siege.elsewhere, "GOOD")
    acknowledged: set[str] = set()
    assert send_files(siege.node.port, good.files, acknowledged)
    assert siege.node.ended(good.uid) == "done"
    wait_for("both results", lambda: all(siege.pacs.of_series(good.uid).values()))
    assert [len(one) for one in siege.pacs.of_series(good.uid).values()] == [1, 1]
    assert siege.node.terminate() == 0
    checked = subprocess.run(
        [sys.executable, "-m", "rales", "fsck", "--deep", "--config", siege.node.write_config()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
