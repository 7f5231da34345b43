"""Measures the time from the last image to both results, through the real node and a real PACS.

dcmtk's storescu sends a thorax phantom to ``rales serve``, which stores SEG and SR in Orthanc. The
table has, for each series:

- seconds from the end of the sender to the end of the job, whose results the PACS then has,
- the part of them that the node waited for more images (``settle``: it cannot know the last one),
- the seconds of each stage of the analysis, and the rest (assembling, delivering, recording),
- the processor seconds of the node and its processes, and the peak of their memory.

    python bench/end_to_end.py [--slices 100 400] [--together 4] [--jpeg2000] [--negative]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import pydicom
from node_process import NodeProcess
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from phantom import PhantomIdentity, healthy_spec, make_thorax, sample_spec, write_series
from rales.demo.pacs import Pacs, find_orthanc, start_pacs
from rales.demo.run import dcmtks_storescu

_HEIGHT_MM = 320.0
_MOST_SECONDS = 900.0
_STAGES = ("load", "lungs", "presence", "lesions", "measure", "write")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Node(NodeProcess):
    """A node with the shipped models that sends to one PACS."""

    pacs: Pacs | None = None

    def configuration(self) -> str:
        """Return the destination."""
        assert self.pacs is not None
        return (
            '[[destinations]]\nname = "pacs"\nae_title = "PACS"\n'
            f'host = "127.0.0.1"\nport = {self.pacs.destination.port}\n'
        )


def main() -> None:
    """Measure each kind of series, and several at once; print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--together", type=int, default=4, help="series of 400 slices at once")
    parser.add_argument("--jpeg2000", action="store_true", help="compressed series as well")
    parser.add_argument("--negative", action="store_true", help="series without opacity as well")
    arguments = parser.parse_args()
    if find_orthanc() is None or dcmtks_storescu() is None:
        sys.exit("install orthanc and dcmtk (Debian packages) to run this benchmark")
    print(f"| series | total | settle | {' | '.join(_STAGES)} | rest | CPU s | peak MB |")
    print("|---" * (len(_STAGES) + 6) + "|")
    kinds = [(True, False)]
    kinds += [(False, False)] if arguments.negative else []
    kinds += [(True, True)] if arguments.jpeg2000 else []
    for slices in arguments.slices:
        for positive, compressed in kinds:
            _measure(slices, positive=positive, compressed=compressed, count=1)
    if arguments.together > 1:
        _measure(400, positive=True, compressed=False, count=arguments.together)


def _measure(slices: int, *, positive: bool, compressed: bool, count: int) -> None:
    """Send series at once, on an association each, and print the row of the last to end."""
    with tempfile.TemporaryDirectory(prefix="rales-bench-") as name:
        folder = Path(name)
        series = [
            _write(folder / str(number), slices, number, positive=positive, compressed=compressed)
            for number in range(count)
        ]
        with start_pacs(folder / "pacs", "RALES") as pacs:
            (folder / "node").mkdir()
            node = Node(folder / "node", pacs=pacs)
            try:
                node.start()
                _warm(node)
                _print(_name(slices, positive, compressed, count), *_run(node, series))
            finally:
                node.end()


def _warm(node: Node) -> None:
    """Wait until the analysis process has loaded its models: it then idles."""
    assert node.process is not None
    before = -1.0
    while (now := _cpu_seconds(node.process.pid)) - before > 0.1:  # noqa: PLR2004 - idle
        before = now
        time.sleep(2.0)


def _run(node: Node, series: list[tuple[str, Path]]) -> tuple[list[float], float, int]:
    """Return the seconds of the row, CPU seconds and the peak of memory in MB."""
    assert node.process is not None
    cpu = _cpu_seconds(node.process.pid)
    command = [dcmtks_storescu() or "", "-aec", "RALES", "+sd", "127.0.0.1", str(node.port)]
    if any(path.joinpath("compressed").exists() for _, path in series):
        command.insert(1, "-xv")
    senders = [
        subprocess.Popen([*command, str(path / "images")], env=os.environ | {"TCP_NODELAY": "1"})
        for _, path in series
    ]
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise RuntimeError(f"storescu failed; the log of the node:\n{node.log()}")
    sent = time.time()
    states = {uid: node.ended(uid, _MOST_SECONDS) for uid, _ in series}
    if set(states.values()) != {"done"}:
        raise RuntimeError(f"not every job is done: {states}\n{node.log()}")
    rows = [_row(node, uid, sent) for uid, _ in series]
    last = max(rows, key=lambda row: row[0])
    return last, _cpu_seconds(node.process.pid) - cpu, _peak_mb(node.process.pid)


def _row(node: Node, uid: str, sent: float) -> list[float]:
    """Return total and settle time, the stages, and the rest, in seconds."""
    events = dict(
        node.rows(
            "SELECT e.after, e.at FROM job_events e JOIN jobs j ON j.id = e.job_id"
            " WHERE j.series_uid = ? ORDER BY e.id",
            uid,
        )
    )
    ((result,),) = node.rows("SELECT result FROM jobs WHERE series_uid = ?", uid)
    seconds = json.loads(result)["seconds"]
    stages = [float(seconds.get(stage, 0.0)) for stage in _STAGES]
    total = datetime.fromisoformat(events["done"]).timestamp() - sent
    settle = datetime.fromisoformat(events["ready"]).timestamp() - sent
    return [total, settle, *stages, total - settle - sum(stages)]


def _write(
    folder: Path, slices: int, number: int, *, positive: bool, compressed: bool
) -> tuple[str, Path]:
    """Write a series of slices over the same height; return its UID and folder."""
    spec = replace(
        sample_spec() if positive else healthy_spec(),
        shape=(slices, 512, 512),
        slice_spacing_mm=round(_HEIGHT_MM / slices, 3),
    )
    files = write_series(
        make_thorax(spec), folder / "images", PhantomIdentity(patient_id=f"BENCH{number}")
    )
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    if compressed:
        folder.joinpath("compressed").touch()
        for file in files:
            _compress(file)
    return str(first.SeriesInstanceUID), folder


def _compress(file: Path) -> None:
    """Compress an image without loss."""
    image = pydicom.dcmread(file)
    pixels = np.ascontiguousarray(image.pixel_array)
    image.PixelData = encapsulate([encode_array(pixels)])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.save_as(file, enforce_file_format=True)


def _family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process and its descendants, ended ones included."""
    total = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICK


def _peak_mb(pid: int) -> int:
    """Return the sum of the peaks of memory of a process and its descendants, MB."""
    lines = [
        line
        for member in _family(pid)
        for line in Path(f"/proc/{member}/status").read_text().splitlines()
    ]
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def _name(slices: int, positive: bool, compressed: bool, count: int) -> str:  # noqa: FBT001
    kind = "positive" if positive else "negative"
    syntax = ", JPEG 2000" if compressed else ""
    return f"{f'{count} times ' if count > 1 else ''}{slices} slices, {kind}{syntax}"


def _print(name: str, seconds: list[float], cpu: float, peak: int) -> None:
    cells = " | ".join(f"{value:.1f}" for value in seconds)
    print(f"| {name} | {cells} | {cpu:.1f} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
