"""The same series in another transfer syntax is the same series: one job, one SEG, one SR."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE
from pynetdicom.dsutils import create_file_meta, encode, encode_file_meta
from tiny_node import StoringPacs, TinyNode
from waiting import wait_for

from chestct.series import Series
from chestct.states import JobState
from chestct.uids import Uid
from scp.headers import parse
from scp.ports import Recorded
from scp.stored import instance_of

from .test_damaged_input import _ATTEMPTS, Chest, Rig, chest, rig

__all__ = ["chest", "rig"]


def _receive(
    rig: Rig, file: Path, syntax: str, change: Callable[[Dataset], None] = lambda _: None
) -> Recorded:
    dataset = pydicom.dcmread(file)
    change(dataset)
    uid = pydicom.uid.UID(syntax)
    content = encode(
        dataset,
        is_implicit_vr=uid.is_implicit_VR,
        is_little_endian=True,
        deflated=uid == DeflatedExplicitVRLittleEndian,
    )
    assert content is not None
    header = parse(content, syntax)
    meta = create_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax=uid,
    )
    spooled = rig.spool.write(
        header.series_uid, bytes(128) + b"DICM" + encode_file_meta(meta), content
    )
    return rig.instances.record(
        instance_of(
            header, spooled, transfer_syntax=syntax, received_at=rig.clock(), calling_ae="CT2"
        )
    )


def _series(rig: Rig) -> Series:
    return Series.of(rig.instances.of_series(Uid(rig.chest.series.uid)))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_in_another_syntax_nothing_changes(rig: Rig, syntax: str) -> None:
    rig.ready()
    before = _series(rig)
    done = rig.analyse()
    for _ in range(2):
        for file in rig.chest.series.files:
            assert _receive(rig, file, syntax) is Recorded.REPEATED
    assert _series(rig) == before
    assert rig.job == done
    assert done.state is JobState.COMPOSED


def test_another_value_in_another_syntax_is_a_revision(rig: Rig) -> None:
    rig.ready()
    rig.analyse()

    def change(dataset: Dataset) -> None:
        dataset.RescaleIntercept = -1023

    file = rig.chest.series.files[3]
    assert _receive(rig, file, ImplicitVRLittleEndian, change) is Recorded.REPLACED
    assert (rig.job.state, rig.job.revision) == (JobState.RECEIVING, 2)


@pytest.mark.parametrize("released", [False, True])
def test_a_lost_image_comes_back_in_another_syntax(rig: Rig, *, released: bool) -> None:
    received = rig.ready()
    digest = _series(rig).digest
    if released:
        with rig.database.transaction() as tx:
            tx.execute("UPDATE instances SET released_at = received_at, gone = 1")
    received[3].path.unlink()
    if not released:
        assert rig.analyse(_ATTEMPTS).state is JobState.FAILED
    assert _receive(rig, rig.chest.series.files[3], ImplicitVRLittleEndian) is Recorded.REPEATED
    taken = next(one for one in _series(rig).instances if one.path != received[3].path)
    assert _series(rig).digest == digest
    assert taken.path.exists()
    assert rig.instances.released(rig.job.series_uid) == (len(received) - 1 if released else 0)
    assert rig.analyse().state is (JobState.COMPOSED)
    assert rig.job.revision == 1


def _send(port: int, files: list[Path], syntax: str) -> None:
    ae = AE(ae_title="ROUTER")
    ae.add_requested_context(CTImageStorage, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="RALES")
    assert association.is_established
    for file in files:
        buffer = BytesIO()
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        dataset.save_as(buffer, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        buffer.seek(0)
        assert association.send_c_store(pydicom.dcmread(buffer)).Status == 0
    association.release()


def test_over_two_routes_one_seg_and_one_sr(chest: Chest, tmp_path: Path) -> None:
    pacs = StoringPacs()
    node = TinyNode(tmp_path, chest.models, [pacs.start()])
    files, uid = chest.series.files, chest.series.uid
    try:
        node.start()
        _send(node.port, files, ExplicitVRLittleEndian)
        _send(node.port, files, ImplicitVRLittleEndian)
        assert node.ended(uid) == "done"
        _send(node.port, files, ImplicitVRLittleEndian)
        wait_for(
            "the second kind",
            lambda: node.rows("SELECT count(*) FROM instances") == [(2 * len(files),)],
        )
        assert node.jobs(uid) == [("done", "")]
        objects = pacs.of_series(uid)
        assert (len(objects["SEG"]), len(objects["SR"])) == (1, 1)
    finally:
        node.end()
        pacs.stop()
