"""Two studies of one patient through a real node: the second report speaks of the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from pydicom.dataset import Dataset
from tiny_node import StoringPacs, TinyNode, send_files, tiny_thorax, write_models
from waiting import wait_for

from phantom import PhantomIdentity, write_series


@dataclass
class Ward:
    """A node, its PACS and a scanner."""

    node: TinyNode
    pacs: StoringPacs
    folder: Path
    done: int = 0

    def scan(self, name: str, date: str, **identity: str) -> Dataset:
        """Send a study and return its report."""
        who = PhantomIdentity(
            patient_id=identity.get("patient_id", "P1"),
            patient_birth_date=identity.get("birth", "19600101"),
            study_date=date,
            study_uid=f"2.25.1{name}",
            series_uid=f"2.25.2{name}",
            frame_of_reference_uid=f"2.25.3{name}",
        )
        files = write_series(tiny_thorax(), self.folder / name, who)
        assert send_files(self.node.port, sorted(files), set())
        self.done += 1
        sql = "SELECT count(*) FROM jobs WHERE state = 'done'"
        wait_for("the results", lambda: self.node.rows(sql) == [(self.done,)])
        (report,) = (
            one
            for one in self.pacs.datasets.values()
            if one.Modality == "SR" and one.StudyInstanceUID == who.study_uid
        )
        return report


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    pacs = StoringPacs()
    node = TinyNode(
        folder=folder,
        models=write_models(folder / "models", tiny_thorax()),
        destinations=[pacs.start()],
    )
    try:
        node.start()
        yield Ward(node, pacs, folder)
        assert node.terminate() == 0
    finally:
        node.end()
        pacs.stop()


def _said(report: Dataset) -> str:
    return "\n".join(one.TextValue for one in report.ContentSequence if one.ValueType == "TEXT")


def test_the_second_study_is_compared_with_the_first_and_nobody_else(ward: Ward) -> None:
    first = ward.scan("1", "20260102")
    assert "PertinentOtherEvidenceSequence" not in first
    second = ward.scan("2", "20260116")
    (evidence,) = second.PertinentOtherEvidenceSequence
    prior = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert prior.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert evidence.StudyInstanceUID == first.StudyInstanceUID
    assert "2026-01-02, 14 days before" in _said(second)
    assert "0.0 to 0.0 ml (+0.0)" in _said(second)
    files = sorted((ward.folder / "2").rglob("*.dcm"))
    assert files
    assert send_files(ward.node.port, files, set())
    assert ward.node.jobs("2.25.22") == [("done", "")]
    for name, changes in (("3", {"patient_id": "P2"}), ("4", {"birth": "19700101"})):
        other = ward.scan(name, "20260120", **changes)
        assert "PertinentOtherEvidenceSequence" not in other
        assert "ompared with" not in _said(other)
    earlier = ward.scan("5", "20251224")
    assert "PertinentOtherEvidenceSequence" not in earlier
    assert set(ward.pacs.times.values()) == {1}


def test_a_prior_by_other_models_is_named_and_not_subtracted(ward: Ward) -> None:
    assert ward.node.terminate() == 0
    manifest = ward.node.models / "lesions.toml"
    model = ward.node.models / "lesions.onnx"
    changed = model.read_bytes()
    before = hashlib.sha256(changed).hexdigest()
    graph = onnx.load_from_string(changed)
    graph.doc_string = "another model"
    model.write_bytes(graph.SerializeToString())
    after = hashlib.sha256(model.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(before, after))
    ward.node.start()
    third = ward.scan("6", "20260301")
    assert "Not compared with the Rales report on the study of 2026-01-16" in _said(third)
    assert "made by other models" in _said(third)
    assert len(third.PertinentOtherEvidenceSequence) == 1
