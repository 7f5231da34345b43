"""A real node asks real archives how many images a series has before it takes it for complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from counting_archive import counting_archive
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from tiny_node import (
    SLICES,
    StoringPacs,
    TinyNode,
    TinySeries,
    send_files,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from dicom_out.network.destination import Destination
from phantom import Thorax
from rales.demo.pacs import MODALITY, has_dicomweb, start_pacs

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

_QUIET = 60.0
"""Longer than any of these tests waits."""


@pytest.fixture
def series(thorax: Thorax, tmp_path: Path) -> TinySeries:
    return write_tiny_series(thorax, tmp_path / "in", "counted")


@contextmanager
def asking(
    folder: Path, thorax: Thorax, destinations: list[Destination], **known: Any
) -> Iterator[TinyNode]:
    """Run a node that asks the destination "archive"."""
    models = write_models(folder / "models", thorax)
    known = {"quiet_seconds": _QUIET, "completion": 'archive = "archive"\n'} | known
    node = TinyNode(folder, models, destinations, **known)
    try:
        node.start()
        yield node
    finally:
        node.end()


def ready(node: TinyNode, uid: str) -> tuple[str, float]:
    """Wait until a series is complete; return why, and the seconds since its last image."""
    sql = (
        "SELECT e.message, e.at, (SELECT max(received_at) FROM instances i"
        " WHERE i.series_uid = j.series_uid) FROM job_events e JOIN jobs j ON j.id = e.job_id"
        " WHERE e.after = 'ready' AND j.series_uid = ?"
    )
    why, at, last = wait_for("a complete series", lambda: node.rows(sql, uid))[0]
    return why, (datetime.fromisoformat(at) - datetime.fromisoformat(last)).total_seconds()


def status(node: TinyNode) -> str:
    """Return what ``rales status`` prints, without its line breaks."""
    command = [sys.executable, "-m", "rales", "status", "--config", str(node.folder / "rales.toml")]
    wide = {"COLUMNS": "600", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=wide)
    return done.stdout


def test_halves_are_complete_when_the_archive_stops_growing_and_all_are_here(
    thorax: Thorax, series: TinySeries, tmp_path: Path
) -> None:
    half = SLICES // 2
    kept = [half]
    with (
        counting_archive(lambda _: kept[0]) as archive,
        asking(tmp_path, thorax, [archive.destination]) as node,
    ):
        assert send_files(node.port, series.files[:half], set())
        kept[0] = SLICES  # the archive got the second half before this node
        shown = f"{half} of {SLICES} images, archive archive says {SLICES}"
        wait_for("what it waits for", lambda: shown in status(node))
        assert [state for state, _ in node.jobs(series.uid)] == ["receiving"]
        assert send_files(node.port, series.files[half:], set())
        why, seconds = ready(node, series.uid)
        wait_for("its result", lambda: node.rows("SELECT 1 FROM jobs WHERE result IS NOT NULL"))
        revisions = node.rows("SELECT revision, instance_count FROM jobs")
        asked = {str(one.SeriesInstanceUID) for one in archive.asked}
    assert why == f"complete: all {SLICES} instances that archive archive has"
    assert seconds < _QUIET / 4
    assert revisions == [(1, SLICES)]
    assert asked == {series.uid}


def test_what_never_comes_is_a_note_in_the_report_and_in_the_status(
    thorax: Thorax, series: TinySeries, pacs: StoringPacs, tmp_path: Path
) -> None:
    with (
        counting_archive(lambda _: SLICES + 2) as archive,
        asking(
            tmp_path,
            thorax,
            [archive.destination, pacs.start()],
            quiet_seconds=1.0,
            completion='archive = "archive"\narchive_wait_seconds = 2.0\n',
        ) as node,
    ):
        assert send_files(node.port, series.files, set())
        why, seconds = ready(node, series.uid)
        wait_for("the report", lambda: pacs.of_series(series.uid)["SR"])
        shown = status(node)
    said = f"only {SLICES} of {SLICES + 2} images were received: archive archive says {SLICES + 2}"
    assert why == f"complete: nothing for 2 s; {said}"
    assert seconds >= 2.0
    assert said in shown
    (report,) = pacs.of_series(series.uid)["SR"]
    texts = [one.TextValue for one in report.ContentSequence if one.ValueType == "TEXT"]
    assert any(f"Note: {said}." in text for text in texts)


@pytest.mark.parametrize("kind", ["hangs", "refuses", "no number", "nonsense"])
def test_an_archive_that_does_not_say_costs_no_series_its_settle_time(
    thorax: Thorax, tmp_path: Path, kind: str
) -> None:
    says: dict[str, Callable[[str], Any]] = {
        "refuses": lambda _: (0xA700, None),
        "no number": lambda _: None,
        "nonsense": lambda _: b"many",
    }
    with counting_archive(says.get(kind, lambda _: 0)) as archive:
        if kind == "hangs":
            archive.says = archive.hang
        several = [write_tiny_series(thorax, tmp_path / "in", f"s{one}") for one in range(3)]
        with asking(
            tmp_path,
            thorax,
            [archive.destination],
            completion='archive = "archive"\narchive_timeout_seconds = 1.0\n',
        ) as node:
            for one in several:
                assert send_files(node.port, one.files, set())
            found = [ready(node, one.uid) for one in several]
            log = node.log()
    assert all("settled" in why for why, _ in found), log
    assert all(seconds < _QUIET / 4 for _, seconds in found)
    assert log.count("archive archive does not say how many images it has") == 1, log
    assert "Traceback" not in log


@pytest.mark.orthanc
@pytest.mark.parametrize("way", ["C-FIND", "QIDO-RS"])
def test_a_short_series_that_orthanc_has_whole_does_not_wait_the_quiet_time(
    thorax: Thorax, series: TinySeries, tmp_path: Path, way: str
) -> None:
    if shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("Orthanc is not installed")
    if way == "QIDO-RS" and not has_dicomweb():
        pytest.skip("Orthanc's DICOMweb plug-in is not installed")
    files = series.files[: SLICES - 10]  # too short for a chest
    with start_pacs(tmp_path / "pacs", "RALES") as orthanc:
        _store(orthanc.destination, files)
        extra = f'[[destinations]]\nname = "web"\nurl = "{orthanc.url}/dicom-web"\n'
        name = "pacs" if way == "C-FIND" else "web"
        with asking(
            tmp_path,
            thorax,
            [orthanc.destination],
            extra=extra if way == "QIDO-RS" else "",
            completion=f'archive = "{name}"\n',
        ) as node:
            assert send_files(node.port, files, set())
            why, seconds = ready(node, series.uid)
    assert why == f"complete: all {len(files)} instances that archive {name} has"
    assert seconds < _QUIET / 4


def _store(pacs: Destination, files: list[Path]) -> None:
    ae = AE(ae_title=MODALITY)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(pacs.host, pacs.port, ae_title=pacs.ae_title)
    assert association.is_established
    for file in files:
        assert association.send_c_store(pydicom.dcmread(file)).Status == 0
    association.release()
