"""An image that is replaced and then comes as it was: every result is an object of its own."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def test_what_comes_again_as_it_was_gives_a_result_that_follows_the_last(tmp_path: Path) -> None:
    """Made under the UIDs of the first one, it would be other bytes and supersede itself."""
    thorax = tiny_thorax()
    models = write_models(tmp_path / "models", thorax)
    series = write_tiny_series(thorax, tmp_path / "in", "twice")
    other = tmp_path / "other.dcm"
    changed = pydicom.dcmread(series.files[10])
    changed.SeriesDescription = "another"
    changed.save_as(other)
    pacs = StoringPacs()
    node = TinyNode(tmp_path, models, [pacs.start()], quiet_seconds=2.0)
    node.start()
    try:
        for revision, files in enumerate([series.files, [other], [series.files[10]]], start=1):
            assert send_files(node.port, files, set())
            wait_for("a revision", lambda n=revision: len(node.jobs(series.uid)) == n)
            assert node.ended(series.uid) == "done", node.log()
    finally:
        node.end()
        pacs.stop()
    assert pacs.changed == []
    reports = pacs.of_series(series.uid)["SR"]
    follows = [
        [
            item.ReferencedSOPInstanceUID
            for study in report.get("PredecessorDocumentsSequence", [])
            for part in study.ReferencedSeriesSequence
            for item in part.ReferencedSOPSequence
        ]
        for report in reports
    ]
    uids = [str(report.SOPInstanceUID) for report in reports]
    assert follows == [[], [uids[0]], [uids[1]]]
