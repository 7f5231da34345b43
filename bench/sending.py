"""Measures a C-STORE of a large SEG beside dcmtk's storescu, and counts lost answers under load.

    python bench/sending.py [--megabytes 25] [--rounds 7] [--sends 1000]

Each round sends the same file to one storescp: by storescu (a whole process), and by Rales over a
new association. Then four threads send many small objects while other threads and processes keep
the cores busy; an answer is lost when the sender reports none. No peer keeps the received bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from receive import environment, free_port, wait_for

from chestct.results import ResultObject
from chestct.uids import Uid, derive_uid
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.sender import send_each

_TITLE = "RALES"
_TIMEOUT = 30.0
_THREADS = 4
_PDUS = (16384, 131072)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_PLAIN)
    parser.add_argument("--megabytes", type=float, default=25)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sends", type=int, default=1000)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="rales-bench-") as name:
        folder = Path(name)
        large = make_object(folder, "large", int(arguments.megabytes * 1e6))
        size = large.path.stat().st_size / 1e6
        print(f"\nOne SEG of {size:.0f} MB, median of {arguments.rounds}\n")
        print("| storescp's maximum PDU | sender | seconds | MB/s | of storescu |")
        print("|---|---|---:|---:|---:|")
        for maximum_pdu in _PDUS:
            with storescp(maximum_pdu) as destination:
                _compare(large, destination, maximum_pdu, arguments.rounds)
        small = make_object(folder, "small", 4000)
        with storescp(_PDUS[0]) as destination:
            _count_lost(small, destination, arguments.sends)


def make_object(folder: Path, name: str, size: int) -> ResultObject:
    """Write a SEG that has ``size`` bytes of Pixel Data."""
    uid = derive_uid("bench sending", name)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SegmentationStorage, uid
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = derive_uid("bench sending")
    dataset.Modality, dataset.PatientName, dataset.PatientID = "SEG", "Bench^Sending", "BENCH"
    random = np.random.default_rng(1)
    dataset.PixelData = random.integers(0, 256, size + size % 2, np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    path = folder / f"{name}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    return ResultObject(
        role="seg",
        path=path,
        sop_class_uid=Uid(SegmentationStorage),
        sop_instance_uid=uid,
        series_uid=derive_uid("bench sending"),
        study_uid=derive_uid("bench sending"),
        digest=sha256(content).hexdigest(),
        size=len(content),
    )


@contextmanager
def storescp(maximum_pdu: int) -> Iterator[Destination]:
    """Run a storescp that discards what it receives."""
    port = free_port()
    command = ["storescp", "--fork", "--ignore", "-pdu", str(maximum_pdu), str(port)]
    with subprocess.Popen(command, env=environment()) as process:
        try:
            wait_for(process, port)
            yield Destination(name="peer", ae_title=_TITLE, host="127.0.0.1", port=port)
        finally:
            process.terminate()


def _compare(item: ResultObject, destination: Destination, maximum_pdu: int, rounds: int) -> None:
    ways: dict[str, Callable[[], None]] = {
        "storescu": lambda: _storescu(item, destination),
        "rales, new association": lambda: _deliver(item, destination),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, send in ways.items():
            begin = time.perf_counter()
            send()
            seconds[name].append(time.perf_counter() - begin)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        rate, ratio = item.size / 1e6 / value, value / middle["storescu"]
        print(f"| {maximum_pdu} | {name} | {value:.3f} | {rate:.0f} | {ratio:.2f} |")


def _storescu(item: ResultObject, destination: Destination) -> None:
    command = ["storescu", "-R", "-aec", _TITLE, destination.host, str(destination.port)]
    subprocess.run([*command, str(item.path)], check=True, env=environment())


def _deliver(item: ResultObject, destination: Destination) -> None:
    (outcome,) = send_each([item], destination, calling_ae="BENCH", timeout_seconds=_TIMEOUT)
    if outcome.kind is not OutcomeKind.DELIVERED:
        raise RuntimeError(f"the SEG was not stored: {outcome.message}")


def _count_lost(item: ResultObject, destination: Destination, sends: int) -> None:
    """Print the outcomes of ``sends`` sends while the cores are busy."""
    outcomes: Counter[str] = Counter()

    def send_many() -> None:
        for _ in range(sends // _THREADS // 10):
            for outcome in send_each(
                [item] * 10, destination, calling_ae="BENCH", timeout_seconds=_TIMEOUT
            ):
                outcomes[outcome.kind if outcome.status is not None else outcome.message] += 1

    begin = time.perf_counter()
    with busy_machine():
        senders = [threading.Thread(target=send_many) for _ in range(_THREADS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    seconds, total = time.perf_counter() - begin, outcomes.total()
    lost = total - outcomes[OutcomeKind.DELIVERED]
    print(f"\n{total} sends of small objects by {_THREADS} threads, all cores busy: ", end="")
    print(f"{lost} answers lost, {total / seconds:.0f} sends/s")
    for outcome, count in outcomes.items():
        if outcome != OutcomeKind.DELIVERED:
            print(f"  {count} times: {outcome}")


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keep every core busy, and this process with two threads."""
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            sum(range(2000))

    threads = [threading.Thread(target=spin) for _ in range(2)]
    spinning = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spinning) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
        for process in processes:
            process.kill()
            process.wait()


_PLAIN = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
