"""Measures a node with a large history: fills a state file by SQL, then runs the real commands.

    python bench/fill.py --series 20000 --images 60
    python bench/fill.py --series 20000 --images 500 --no-files   # 10 million rows

Prints the time from start to the first answer and to READY, the CPU of the idle node, the time of
`rales status`, and the longest time to record an image while the loops run. Writes one small file
per image unless --no-files is given.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from tiny_node import TinyNode, tiny_thorax, write_models

from chestct.series import ReceivedInstance
from chestct.uids import Uid
from dicom_out.network.destination import Destination
from rales.state.store import Database, InstanceStore
from rales.state.store.database import to_text
from scp.spool import folder_of

_START = datetime.now(UTC) - timedelta(days=200)
_CONTENT = bytes(200)


def main() -> None:
    """Fill the state file, start the node and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_PLAIN)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=60, help="images per series")
    parser.add_argument("--pending", type=int, default=200, help="series with pending deliveries")
    parser.add_argument("--no-files", dest="files", action="store_false")
    parser.add_argument("--extra", default="", help="text to append to the configuration file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = TinyNode(
            folder=folder,
            models=write_models(folder / "models", tiny_thorax()),
            destinations=[Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=9)],
            extra=options.extra.replace("\\n", "\n"),
        )
        began = time.monotonic()
        fill(folder / "data", options)
        size = node.state.stat().st_size
        print(f"filled in {time.monotonic() - began:.0f} s: state file {size / 1e6:.0f} MB")
        began = time.monotonic()
        node.start()
        print(f"start until it answers C-ECHO: {time.monotonic() - began:.2f} s")
        try:
            assert node.process is not None
            print(f"idle CPU of the node over 20 s: {100 * cpu_part(node.process.pid, 20):.1f} %")
            status(folder)
            print(f"longest record of an image, of 400: {1000 * longest_record(folder):.1f} ms")
        finally:
            node.terminate()


def status(folder: Path) -> None:
    """Time `rales status` with its options."""
    for words in ([], ["--state", "failed"], ["--since", "7d"], ["--accession", "A7"]):
        began = time.monotonic()
        config = str(folder / "rales.toml")
        command = [sys.executable, "-m", "rales", "status", "--config", config, *words]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        print(f"rales status {' '.join(words)}: {time.monotonic() - began:.2f} s")


def longest_record(folder: Path) -> float:
    """Return the longest time of many records of an image in seconds, as a C-STORE writes them."""
    database = Database(folder / "data" / "state.sqlite")
    store = InstanceStore(database, on_change=lambda: None)
    longest = 0.0
    for number in range(400):
        instance = ReceivedInstance(
            path=folder / "data" / "spool" / "x" / f"{number}.dcm",
            sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance_uid=Uid(f"1.9.{number}"),
            series_uid=Uid("1.9"),
            study_uid=Uid("1.9"),
            patient_key="p",
            transfer_syntax_uid=Uid("1.2.840.10008.1.2.1"),
            content_digest=f"{number:064x}",
            size=1,
            received_at=datetime.now(UTC),
            calling_ae="CT",
        )
        began = time.perf_counter()
        store.record(instance)
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.05)
    database.close()
    return longest


def cpu_part(pid: int, seconds: float) -> float:
    """Return the fraction of one core that a process and its children use."""
    ticks = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        total = 0.0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(path.parent.name) == pid or int(fields[1]) == pid:
                total += (int(fields[11]) + int(fields[12])) / ticks
        return total

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def fill(data: Path, options: argparse.Namespace) -> None:
    """Write the state file and a small file per image."""
    Database(data / "state.sqlite").close()
    with closing(sqlite3.connect(data / "state.sqlite")) as state:
        state.execute("PRAGMA synchronous=OFF")
        state.execute("PRAGMA cache_size=-400000")
        for number in range(options.series):
            uid, at = f"1.2.3.{number}", to_text(_START + timedelta(minutes=10 * number))
            state.executemany(
                "INSERT INTO instances (sop_instance_uid, content_digest, series_uid, study_uid,"
                " sop_class_uid, transfer_syntax_uid, patient_key, path, size, slice_position,"
                " calling_ae, received_at) VALUES (?, ?, ?, ?, '1.2.840.10008.5.1.4.1.1.2',"
                " '1.2.840.10008.1.2.1', ?, ?, ?, ?, 'CT1', ?)",
                images(data, uid, options, at),
            )
            job(state, number + 1, uid, at, pending=number >= options.series - options.pending)
            if number % 1000 == 0:
                state.commit()
        state.commit()


def images(
    data: Path, uid: str, options: argparse.Namespace, at: str
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one series, and write their files."""
    folder = data / "spool" / folder_of(Uid(uid))
    if options.files:
        folder.mkdir(parents=True)
    patient = sha256(uid.encode()).hexdigest()
    for number in range(options.images):
        digest = sha256(f"{uid} {number}".encode()).hexdigest()
        if options.files:
            (folder / f"{digest}.dcm").write_bytes(_CONTENT)
        place = f"spool/{folder.name}/{digest}.dcm"
        yield (f"{uid}.{number}", digest, uid, uid, patient, place, 200, float(number), at)


def job(state: sqlite3.Connection, number: int, uid: str, at: str, *, pending: bool) -> None:
    """Write the job of one series with its events, deliveries and a notification."""
    result = '{"objects": [], "findings": {"lesions": 0, "quality_flags": []}}'
    state.execute(
        "INSERT INTO jobs (id, series_uid, study_uid, calling_ae, revision, state, since,"
        " created_at, instance_count, result, accession_key) VALUES (?, ?, ?, 'CT1', 1, ?, ?, ?,"
        " 60, ?, ?)",
        (number, uid, uid, "delivering" if pending else "done", at, at, result, uid),
    )
    state.executemany(
        "INSERT INTO job_events (job_id, at, after, message) VALUES (?, ?, 'x', '')",
        [(number, at)] * 6,
    )
    outcome = "pending" if pending else "delivered"
    due = to_text(datetime.now(UTC) + timedelta(hours=1))
    state.executemany(
        "INSERT INTO deliveries (job_id, role, destination, sop_instance_uid, state, created_at,"
        " due_at, sent) VALUES (?, ?, 'pacs', ?, ?, ?, ?, 1)",
        [(number, role, f"1.4.{number}", outcome, due, due) for role in ("seg", "sr")],
    )
    state.execute(
        "INSERT INTO notifications (message_id, job_id, target, event, occurred_at, state, due_at)"
        " VALUES (lower(hex(randomblob(16))), ?, 'ris', 'done', ?, 'delivered', ?)",
        (number, at, at),
    )


_PLAIN = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
