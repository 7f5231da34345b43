"""The report on a study of last month lies in the PACS alone: this node has it brought."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from tiny_node import StoringPacs, TinyNode, send_files, tiny_thorax, write_models
from waiting import wait_for

from dicom_out.network.destination import Destination
from phantom import PhantomIdentity, write_series
from rales.demo.pacs import Pacs, start_pacs

TROUBLE = "earlier reports could not be looked up in the PACS"


def scan(node: TinyNode, name: str, date: str) -> str:
    """Send a study of the same patient; return its series once it is done."""
    who = PhantomIdentity(
        patient_id="P1",
        study_date=date,
        study_uid=f"2.25.1{name}",
        series_uid=f"2.25.2{name}",
        frame_of_reference_uid=f"2.25.3{name}",
    )
    files = write_series(tiny_thorax(), node.folder / f"in{name}", who)
    assert send_files(node.port, sorted(files), set())
    assert node.ended(who.series_uid) == "done"
    return who.series_uid


def node_in(folder: Path, models: Path, destinations: list[Destination], extra: str) -> TinyNode:
    folder.mkdir()
    return TinyNode(folder, models, destinations, extra=extra)


def said(report: Dataset) -> str:
    return "\n".join(one.TextValue for one in report.ContentSequence if one.ValueType == "TEXT")


def to(name: str, port: int) -> str:
    return (
        f'[[destinations]]\nname = "{name}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
    )


def web(pacs: Pacs) -> str:
    return (
        f'[[destinations]]\nname = "web"\nurl = "{pacs.url}/dicom-web"\n'
        '[priors]\ndestination = "web"\n'
    )


@pytest.mark.orthanc
@pytest.mark.parametrize("way", ["C-GET", "WADO-RS"])
def test_a_report_of_another_node_is_fetched_and_compared_with(way: str, tmp_path: Path) -> None:
    if shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("Orthanc is not installed")
    models = write_models(tmp_path / "models", tiny_thorax())
    mine = StoringPacs()
    here = mine.start()
    with start_pacs(tmp_path / "pacs", "RALES") as pacs:
        first = node_in(tmp_path / "first", models, [pacs.destination], "")
        asks = '[priors]\ndestination = "pacs"\n' if way == "C-GET" else web(pacs)
        archive = [pacs.destination] if way == "C-GET" else []
        copy = to("mine", here.port)
        second = node_in(tmp_path / "second", models, archive, copy + asks)
        try:
            first.start()
            scan(first, "1", "20260102")
            assert first.terminate() == 0
            second.start()
            uid = scan(second, "2", "20260116")
            wait_for("the report", lambda: len(mine.of_series(uid)["SR"]) == 1)
            assert second.terminate() == 0
        finally:
            first.end()
            second.end()
            mine.stop()
    (report,) = mine.of_series(uid)["SR"]
    (evidence,) = report.PertinentOtherEvidenceSequence
    assert evidence.StudyInstanceUID == "2.25.11"
    assert "2026-01-02, 14 days before" in said(report)
    assert "0.0 to 0.0 ml (+0.0)" in said(report)
    assert TROUBLE not in said(report)


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "nobody there"])
def test_an_archive_that_fails_costs_no_result_and_is_said(*, silent: bool, tmp_path: Path) -> None:
    models = write_models(tmp_path / "models", tiny_thorax())
    mine = StoringPacs()
    here = mine.start()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        port = listener.getsockname()[1]
        extra = to("gone", port) + '[priors]\ndestination = "gone"\ntimeout_seconds = 1.0\n'
        node = node_in(tmp_path / "node", models, [here], extra)
        try:
            node.start()
            who = PhantomIdentity(patient_id="P1", series_uid="2.25.29")
            files = write_series(tiny_thorax(), node.folder / "in", who)
            assert send_files(node.port, sorted(files), set())
            wait_for("the report", lambda: len(mine.of_series("2.25.29")["SR"]) == 1)
        finally:
            node.end()
            mine.stop()
    (report,) = mine.of_series("2.25.29")["SR"]
    assert TROUBLE in said(report)
    assert "PertinentOtherEvidenceSequence" not in report
    assert node.rows("SELECT attempts FROM jobs") == [(1,)]
