"""Measures the throughput of the receiver, the durable floor and other receivers in the same run.

``python bench/receive.py [--slices 200] [--size 512] [--rounds 3] [--associations 1 4]``: dcmtk's
storescu sends a series of noise alternately to each receiver on this machine, split over several
associations. It runs with ``TCP_NODELAY=1``; otherwise dcmtk waits 40 ms for an acknowledgement of
each instance, and this wait dominates the result. Rales checks each instance, synchronises it to
disk and records it in the state file before it answers. storescp neither checks nor synchronises;
with ``+B`` it keeps the received bytes. Compare the ratio: MB/s depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from chestct.uids import derive_uid
from rales.demo.pacs import find_orthanc
from rales.state.store import GroupedIntake, InstanceStore
from rales.state.store.database import Database
from scp.server import ScpSettings, start
from scp.spool import Spool

_STORESCP = ["storescp", "--fork", "+B", "-od", "{folder}"]
_FLOOR = "durable floor (bench/floor.py)"
_RALES = "Rales"
_RECEIVERS = {
    _FLOOR: [sys.executable, str(Path(__file__).with_name("floor.py")), "{port}", "{folder}"],
    "dcmtk storescp (no fsync)": [*_STORESCP, "{port}"],
    "dcmtk storescp, 128 KiB PDUs (no fsync)": [*_STORESCP, "-pdu", "131072", "{port}"],
    "pynetdicom storescp (no fsync)": [
        *(sys.executable, "-m", "pynetdicom", "storescp", "{port}", "-od", "{folder}")
    ],
    _RALES: [sys.executable, __file__, "--serve", "{folder}", "--port", "{port}"],
}
if (orthanc := find_orthanc()) is not None:
    _RECEIVERS["Orthanc"] = [orthanc, "{folder}/orthanc.json"]
_START_SECONDS = 60.0
_SMALLEST = 100_000
"""Bytes that every received file exceeds, and no file beside them but databases."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments.serve, arguments.port)
        return
    with TemporaryDirectory(prefix="rales-bench-") as name:
        for associations in arguments.associations:
            series = Path(name) / f"series-{associations}"
            _write(series, arguments.slices, arguments.size, associations)
            _compare(series, Path(name), arguments.rounds)


def _serve(folder: Path, port: int) -> None:
    """Receive into ``folder`` until this process is terminated."""
    settings = ScpSettings(ae_title="RALES", host="127.0.0.1", port=port)
    database = Database(folder / "state.sqlite")
    intake = GroupedIntake(database, InstanceStore(database, on_change=lambda: None))
    spool = Spool(folder / "spool")
    with start(settings, spool=spool, intake=intake, clock=lambda: datetime.now(UTC)):
        signal.pause()


def _compare(series: Path, scratch: Path, rounds: int) -> None:
    files = [path for path in series.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    seconds: dict[str, list[float]] = {name: [] for name in _RECEIVERS}
    for _ in range(rounds):
        for name, command in _RECEIVERS.items():
            seconds[name].append(_measure(command, series, scratch / "received", len(files)))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    parts = len(list(series.iterdir()))
    print(
        f"| {len(files)} instances, {megabytes:.0f} MB, {parts} association(s) | seconds | MB/s",
        end="",
    )
    print(" | throughput / floor |\n|---|---|---|---|")
    for name, value in middle.items():
        rate, ratio = megabytes / value, middle[_FLOOR] / value
        print(f"| {name} | {value:.2f} | {rate:.0f} | {ratio:.2f} |")
    print()


def _measure(command: list[str], series: Path, folder: Path, count: int) -> float:
    """Return the seconds from the start of the senders to the end of the last sender."""
    folder.mkdir()
    port = free_port()
    orthanc = {"StorageDirectory": str(folder), "DicomAet": "RALES", "DicomPort": port}
    orthanc |= {"IndexDirectory": str(folder), "HttpServerEnabled": False}
    (folder / "orthanc.json").write_text(json.dumps(orthanc | {"DicomAlwaysAllowStore": True}))
    arguments = [part.format(folder=folder, port=port) for part in command]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(arguments, env=environment(), stdout=quiet, stderr=quiet) as receiver:
        try:
            wait_for(receiver, port)
            begin = time.perf_counter()
            sender = ["storescu", "-R", "-aec", "RALES", "+sd", "127.0.0.1", str(port)]
            senders = [
                subprocess.Popen([*sender, str(part)], env=environment())
                for part in series.iterdir()
            ]
            codes = [one.wait() for one in senders]
            seconds = time.perf_counter() - begin
        finally:
            receiver.terminate()
    kept = sum(
        path.is_file() and path.stat().st_size > _SMALLEST and not path.name.startswith("state.")
        for path in folder.rglob("*")
    )
    shutil.rmtree(folder)
    if any(codes) or kept < count:
        raise RuntimeError(f"{command[0]}: {kept} of {count} instances arrived, exits {codes}")
    return seconds


def environment() -> dict[str, str]:
    return {**os.environ, "TCP_NODELAY": "1"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(receiver: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the receiver answers an echo."""
    echo = ["echoscu", "-aec", "RALES", "127.0.0.1", str(port)]
    deadline = time.monotonic() + _START_SECONDS
    while (done := subprocess.run(echo, check=False, capture_output=True)).returncode:
        if receiver.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the receiver did not start: {done.stderr.decode()}")
        time.sleep(0.05)


def _write(series: Path, slices: int, size: int, parts: int) -> None:
    """Write a series of noise, spread over one directory per association."""
    random = np.random.default_rng(1)
    for index in range(slices):
        folder = series / str(index % parts)
        folder.mkdir(parents=True, exist_ok=True)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
        dataset.SOPInstanceUID = derive_uid("bench", str(parts), str(index))
        dataset.StudyInstanceUID = derive_uid("bench study")
        dataset.SeriesInstanceUID = derive_uid("bench series")
        dataset.PatientID, dataset.PatientName = "BENCH", "Bench"
        dataset.ImagePositionPatient = [0, 0, index]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.Rows = dataset.Columns = size
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation = 0
        dataset.PixelData = random.integers(0, 4096, (size, size), np.uint16).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
