"""Peers on real sockets, and small objects to send to them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from chestct.results import ResultObject
from chestct.uids import Uid, derive_uid
from dicom_out.network.destination import Destination

SEGMENTATION = Uid("1.2.840.10008.5.1.4.1.1.66.4")


@pytest.fixture
def start_scp() -> Iterator[Callable[..., Destination]]:
    """Start storage SCPs: ``store`` answers C-STORE, other arguments are attributes of the AE."""
    servers: list[ThreadedAssociationServer] = []

    def start(
        store: Callable[[Any], int] = lambda _: 0x0000,
        *,
        kinds: tuple[str, ...] = (SEGMENTATION,),
        syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        **settings: Any,
    ) -> Destination:
        ae = AE(ae_title="SCP")
        for kind in kinds:
            ae.add_supported_context(kind, list(syntaxes))
        for name, value in settings.items():
            setattr(ae, name, value)
        handlers = [(evt.EVT_C_STORE, store)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        servers.append(server)
        return Destination(
            name="scp", ae_title="SCP", host="127.0.0.1", port=server.server_address[1]
        )

    yield start
    for server in servers:
        server.ae.shutdown()


@pytest.fixture
def start_relay() -> Iterator[Callable[..., Destination]]:
    """Start peers that let the association be made and then do ``after(client socket)``."""
    sockets: list[socket.socket] = []

    def start(behind: Destination, after: Callable[[socket.socket], None]) -> Destination:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sockets.append(listener)

        def relay() -> None:
            client, _ = listener.accept()
            server = socket.create_connection((behind.host, behind.port))
            sockets.extend([client, server])
            server.sendall(client.recv(65536))
            client.sendall(server.recv(65536))
            after(client)

        threading.Thread(target=relay, daemon=True).start()
        port = listener.getsockname()[1]
        return Destination(name="relay", ae_title="SCP", host="127.0.0.1", port=port)

    yield start
    for one in sockets:
        one.close()


@pytest.fixture
def make_object(tmp_path: Path) -> Callable[..., ResultObject]:
    """Return a function that writes an object of about ``size`` bytes."""

    def make(name: str = "object", size: int = 100, kind: Uid = SEGMENTATION) -> ResultObject:
        uid = derive_uid("sent", name)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.PixelData = bytes(size)
        dataset["PixelData"].VR = "OB"
        path = tmp_path / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return ResultObject(
            role=name,
            path=path,
            sop_class_uid=kind,
            sop_instance_uid=uid,
            series_uid=derive_uid("series"),
            study_uid=derive_uid("study"),
        )

    return make
