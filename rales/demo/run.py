"""The demo: starts a PACS and a node, sends a series, and collects SEG, SR and pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom as hd
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from chestct.states import JobState
from dicom_out.network.destination import Destination
from dicom_out.objects import codes
from dicom_out.objects.text import render_text
from phantom import Thorax, make_thorax, sample_spec, write_series
from rales.demo.pacs import (
    MODALITY,
    DemoFailed,
    Pacs,
    answers,
    free_port,
    running,
    start_pacs,
    wait_for,
)
from rales.state.results import load_objects
from rales.state.store import Database, Job, JobStore
from scp.spool import GROUP_LENGTH_AT
from scp.values import value_digest

AE_TITLE = "RALES"
_ENDED = (JobState.DONE, JobState.REJECTED, JobState.FAILED, JobState.SUPERSEDED)
_RESULT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        folder: Holds the objects, the report as text and the pictures.
        seconds: Wall-clock seconds by step of the demo, then by stage of the analysis.
        overlap: Dice coefficient of the opacities with the truth; None for a series of the user.
    """

    job: Job
    folder: Path
    seconds: dict[str, float]
    overlap: float | None


def run_demo(series: Path | None, out: Path, say: Callable[[str], None]) -> DemoResult:
    """Run the main job on ``series``, or on the sample series, and fill ``out``.

    Raises:
        DemoFailed: A step failed.
    """
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="rales-demo-")))
        sample = None if series else _sample(work / "series", seconds, say)
        source = series or work / "series"
        pacs = stack.enter_context(start_pacs(work / "pacs", AE_TITLE))
        say(f"PACS: {pacs.name} at {pacs.destination.port}")
        node = stack.enter_context(start_node(work / "node", pacs, out / "rales.log"))
        say(f"Rales listens at port {node.port}")
        with _timed(seconds, "send"):
            sender = send_series(source, node)
        say(f"sent {source} with {sender}")
        with _timed(seconds, "wait for the results"):
            job = await_jobs(work / "node", 1)[-1]
        _collect(job, pacs, out)
        say(f"{pacs.name} has the SEG and the SR")
    stages = job.result["seconds"] if job.result else {}
    seconds.update({f"  {stage}": float(value) for stage, value in stages.items()})
    overlap = _overlap(out / "seg.dcm", sample) if sample else None
    return DemoResult(job=job, folder=out, seconds=seconds, overlap=overlap)


def _sample(folder: Path, seconds: dict[str, float], say: Callable[[str], None]) -> Thorax:
    say("generating the sample series (a thorax phantom)")
    with _timed(seconds, "generate the sample series"):
        thorax = make_thorax(sample_spec())
        write_series(thorax, folder)
    return thorax


@contextmanager
def start_node(folder: Path, pacs: Pacs, log: Path) -> Iterator[Destination]:
    """Run ``rales serve`` with its data in ``folder`` and its log in ``log``.

    Raises:
        DemoFailed: The node does not answer.
    """
    folder.mkdir()
    port = free_port()
    config = folder / "rales.toml"
    config.write_text(
        "[node]\n"
        f'ae_title = "{AE_TITLE}"\nhost = "127.0.0.1"\nport = {port}\n'
        "[[destinations]]\n"
        f'name = "pacs"\nae_title = "{pacs.destination.ae_title}"\n'
        f'host = "127.0.0.1"\nport = {pacs.destination.port}\n'
    )
    node = Destination(name="rales", ae_title=AE_TITLE, host="127.0.0.1", port=port)
    command = [sys.executable, "-m", "rales", "serve", "--config", str(config)]
    with running(command, log) as process:

        def answered() -> bool | None:
            if process.poll() is not None:
                raise DemoFailed(f"rales serve ended early; its log:\n{log.read_text()}")
            return answers(node)

        wait_for(f"Rales to answer C-ECHO (see {log})", answered, 120.0)
        yield node


def dcmtks_storescu() -> str | None:
    """Return the path of dcmtk's storescu; None if it is not installed.

    pynetdicom installs a storescu with other options, which comes first in an active environment.
    """
    own = Path(sys.executable).parent
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    others = [folder for folder in folders if Path(folder) != own]
    return shutil.which("storescu", path=os.pathsep.join(others))


def send_series(source: Path, node: Destination) -> str:
    """Send every file with dcmtk's storescu if it is installed, else with pynetdicom's.

    Compressed files are sent by pynetdicom: dcmtk's storescu proposes one compression, which it
    does not take from the files.

    Raises:
        DemoFailed: The storage SCU failed.
    """
    storescu = None if _has_compressed(source) else dcmtks_storescu()
    address = [node.host, str(node.port)]
    titles = ["-aec", node.ae_title, "-aet", MODALITY]
    if storescu:
        tool = "dcmtk's storescu"
        command = [storescu, *titles, "+sd", "+r", *address, str(source)]
    else:
        tool = "pynetdicom's storescu"
        command = [sys.executable, "-m", "pynetdicom", "storescu", *address, str(source)]
        command += [*titles, "-r", "-cx"]
    done = subprocess.run(  # noqa: S603
        command, env=os.environ | {"TCP_NODELAY": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoFailed(f"{tool} failed:\n{done.stdout}{done.stderr}")
    return tool


def _has_compressed(source: Path) -> bool:
    """Return whether a DICOM file in ``source``, a file or a folder, is compressed."""
    files = source.rglob("*") if source.is_dir() else (source,)
    for path in filter(Path.is_file, files):
        with suppress(InvalidDicomError, AttributeError):
            if read_file_meta_info(path).TransferSyntaxUID.is_compressed:
                return True
    return False


def await_jobs(folder: Path, count: int) -> list[Job]:
    """Wait until the node in ``folder`` has finished ``count`` series or more.

    Returns:
        The jobs whose results are delivered.

    Raises:
        DemoFailed: The node took too long, or rejected or failed every series.
    """
    database = Database(folder / "var" / "state.sqlite")
    try:
        jobs = JobStore(database)

        def ended() -> list[Job] | None:
            present = jobs.all()
            over = len(present) >= count and all(job.state in _ENDED for job in present)
            return present if over else None

        finished = wait_for("the results", ended, _RESULT_SECONDS)
    finally:
        database.close()
    done = [job for job in finished if job.state is JobState.DONE]
    if not done:
        last = finished[-1]
        raise DemoFailed(f"the series is {last.state} ({last.reason}): {last.message}")
    return done


def _collect(job: Job, pacs: Pacs, out: Path) -> None:
    """Fetch the objects from the PACS, compare them, and put everything into ``out``."""
    for item in load_objects(job):
        content = pacs.fetch(item.sop_instance_uid)
        if content is None:
            raise DemoFailed(f"the {item.role} is not in {pacs.name}")
        copy = out / f"{item.role}.dcm"
        copy.write_bytes(content)
        if values_of(item.path) != values_of(copy):
            raise DemoFailed(f"the {item.role} in {pacs.name} differs from the sent object")
    results = Path(job.result["overlay"]).parent if job.result else out
    shutil.copy(results / "overlay.png", out)
    shutil.copy(results / "findings.json", out)
    report = pydicom.dcmread(out / "sr.dcm")
    (out / "sr.txt").write_text(render_text(report), encoding="utf-8")


def values_of(file: Path) -> str:
    """Return a digest of the values in a Part 10 file, which does not depend on the VR encoding."""
    meta = read_file_meta_info(file)
    content = file.read_bytes()[GROUP_LENGTH_AT + 4 + int(meta.FileMetaInformationGroupLength) :]
    return value_digest(content, meta.TransferSyntaxUID)


def _overlap(file: Path, truth: Thorax) -> float:
    """Return the Dice coefficient of the opacities in a SEG and the truth of the phantom.

    The positions in the SEG decide, not the grid that Rales computed.
    """
    seg = hd.seg.segread(file)
    numbers = [
        number
        for number in seg.segment_numbers
        if seg.get_segment_description(number).segmented_property_category
        == codes.ABNORMAL_STRUCTURE
    ]
    segmented = np.zeros(truth.lesion.shape, dtype=bool)
    planes = seg.pixel_array
    for plane, frame in zip(planes, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber not in numbers:
            continue
        height = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        index = round((height - truth.origin[2]) / truth.spacing[0])
        segmented[index] |= plane > 0
    true = truth.lesion > 0
    total = float(segmented.sum() + true.sum())
    return 2 * float((segmented & true).sum()) / total if total else 1.0


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
