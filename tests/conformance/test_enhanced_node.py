"""A real node is sent the same phantom as slices and as multi-frame images: the results agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from enhanced_ct import Layout
from judges import require_one_study, require_same_places, require_valid, segments_of
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
)
from pynetdicom import AE
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
THORAX = tiny_thorax()
MULTI_FRAME = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


@dataclass(frozen=True)
class Node:
    """A running node and the archive that it sends to."""

    node: TinyNode
    pacs: StoringPacs
    folder: Path

    def results(self, uid: str) -> tuple[Path, Path]:
        """Wait for the one SEG and the one SR of a series; return them as files."""
        assert self.node.ended(uid) == "done", self.node.log()
        found = self.pacs.of_series(uid)
        assert {kind: len(items) for kind, items in found.items()} == {"SEG": 1, "SR": 1}
        return self._saved(found["SEG"][0]), self._saved(found["SR"][0])

    def _saved(self, dataset: Dataset) -> Path:
        path = self.folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
        return path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    pacs = StoringPacs()
    running = TinyNode(folder, write_models(folder / "models", THORAX), [pacs.start()])
    running.start()
    yield Node(running, pacs, folder)
    running.end()
    pacs.stop()


@pytest.fixture(scope="module")
def lungs(node: Node) -> dict[str, Any]:
    """Where the voxels of each segment of the single-frame series lie, LPS mm."""
    series = write_tiny_series(THORAX, node.folder, "SLICES")
    assert send_files(node.node.port, series.files, set())
    seg, _ = node.results(series.uid)
    return segments_of(seg, node.folder / "slices")


def multi_frame(folder: Path, name: str, layout: Layout, syntax: UID) -> tuple[str, list[Path]]:
    """Write the phantom as multi-frame images; return the UID of the series and the files."""
    series = write_tiny_series(THORAX, folder, name)
    images = layout.apply([pydicom.dcmread(path) for path in series.files])
    files = []
    for number, image in enumerate(images):
        if syntax.is_encapsulated:
            layout.compress(image, syntax)
        files.append(folder / f"{name} {number}.dcm")
        image.save_as(files[-1], enforce_file_format=True)
    return series.uid, files


def send(port: int, files: list[Path], syntax: UID) -> None:
    ae = AE(ae_title="CT1")
    for sop_class in MULTI_FRAME:
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="RALES")
    assert association.is_established
    for path in files:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0x0000
    association.release()


PARTS = Layout(sizes=(9, 18, 11), seed=12, own_groups=True, rescales=True)
CASES = {
    "PARTS": (PARTS, JPEGLSLossless),
    "LEGACY": (Layout(legacy=True), ExplicitVRLittleEndian),
}


@pytest.mark.parametrize("name", CASES)
def test_the_results_are_those_of_the_single_frame_series(
    node: Node, lungs: dict[str, Any], tmp_path: Path, name: str
) -> None:
    layout, syntax = CASES[name]
    (tmp_path / "series").mkdir()
    uid, files = multi_frame(tmp_path / "series", name, layout, syntax)
    send(node.node.port, files, syntax)
    seg, sr = node.results(uid)
    for path in (seg, sr):
        require_valid(path)
    require_one_study([*files, seg, sr])
    hd.sr.srread(sr)
    assert len(hd.seg.segread(seg).get_source_image_uids()) == len(files)

    found = segments_of(seg, tmp_path / "nrrd")
    assert found.keys() == lungs.keys()
    for segment, points in lungs.items():
        assert len(points) > 1000
        require_same_places(found[segment], points, 2e-3)
    require_frames(seg, files)


def require_frames(seg: Path, files: list[Path]) -> None:
    """Every frame of the SEG lies where the frame does that it names."""
    sources = {}
    for path in files:
        image = pydicom.dcmread(path, stop_before_pixels=True)
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence, start=1):
            place = groups.PlanePositionSequence[0].ImagePositionPatient
            sources[image.SOPInstanceUID, number] = np.array(place, float)
    for groups in pydicom.dcmread(seg).PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        place = sources[source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber]
        np.testing.assert_allclose(
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float), place
        )


def test_parts_of_a_concatenation_wait_for_the_last(
    node: Node, lungs: dict[str, Any], tmp_path: Path
) -> None:
    layout = Layout(sizes=(13, 13, 12), concatenated=True)
    uid, files = multi_frame(tmp_path, "CONCATENATION", layout, ExplicitVRLittleEndian)
    other, whole = multi_frame(tmp_path, "AFTER", Layout(), ExplicitVRLittleEndian)
    send(node.node.port, files[:2], ExplicitVRLittleEndian)
    wait_for("the end of the association", lambda: _ended(node, uid))
    send(node.node.port, whole, ExplicitVRLittleEndian)
    # What came later, and is whole, is analysed before.
    wait_for("its analysis", lambda: _is_analysed(node, other))
    assert [state for state, _ in node.node.jobs(uid)] == ["receiving"]

    send(node.node.port, files[2:], ExplicitVRLittleEndian)
    seg, _ = node.results(uid)
    assert [state for state, _ in node.node.jobs(uid)] == ["done"]
    found = segments_of(seg, tmp_path / "nrrd")
    for segment, points in lungs.items():
        require_same_places(found[segment], points, 2e-3)


def _is_analysed(node: Node, uid: str) -> bool:
    return {state for state, _ in node.node.jobs(uid)} <= {"composed", "delivering", "done"}


def _ended(node: Node, uid: str) -> bool:
    sql = "SELECT association_ended_at FROM jobs WHERE series_uid = ?"
    return any(ended for (ended,) in node.node.rows(sql, uid))


def test_two_stacks_are_refused_with_a_reason(node: Node, tmp_path: Path) -> None:
    layout = Layout(frames=lambda frames: [*frames, *frames])
    uid, files = multi_frame(tmp_path, "TWICE", layout, ExplicitVRLittleEndian)
    send(node.node.port, files, ExplicitVRLittleEndian)
    assert node.node.ended(uid) == "rejected"
    assert node.node.jobs(uid) == [("rejected", "duplicate-positions")]
    assert not any(node.pacs.of_series(uid).values())
