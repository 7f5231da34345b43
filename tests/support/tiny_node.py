"""A real node on tiny networks and tiny phantoms: quick enough to be killed many times.

The networks say where the lungs are by position alone, and never see a lesion; receiver,
state file, analysis process, writers and deliveries are the real ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pydicom
from linear_models import PRESENCE, ModelFolder
from node_process import NodeProcess
from onnx import TensorProto, helper, numpy_helper
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_out.network.destination import Destination
from phantom import PhantomIdentity, Thorax, make_thorax, small_spec, write_series
from pynetdicom_guard.reactor_gate import park_reactor, put_gate

SIZE = 64
_RESULTS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34")

SLICES = 38
"""Of a tiny series: 185 mm, so that it counts as a whole chest when its association ends."""


_BASE = 14
"""The lowest slice with lung: the higher base is well below."""


def tiny_thorax() -> Thorax:
    """Return a thorax of slices of 64 by 64 pixels, without lesions.

    Its lungs end inside it, so that nothing waits for more of them, and at one height, so that
    nothing doubts a base.
    """
    thorax = make_thorax(
        small_spec(
            shape=(SLICES, SIZE, SIZE), pixel_spacing_mm=5.9, slice_spacing_mm=5.0, lesions=()
        )
    )
    right, left = thorax.right_lung.copy(), thorax.left_lung.copy()
    ends = np.ones((SLICES, 1, 1), dtype=bool)
    ends[_BASE:-2] = False
    airless = ends & (right | left).any(axis=0)  # of the gas in the stomach too
    hu = np.where(airless, np.maximum(thorax.hu, np.int16(40)), thorax.hu)
    return replace(thorax, hu=hu, right_lung=right & ~ends, left_lung=left & ~ends)


def write_models(folder: Path, thorax: Thorax) -> Path:
    """Write networks that find the lungs of ``thorax``, and no lesion in anything."""
    folder.mkdir(parents=True, exist_ok=True)
    ModelFolder(path=folder).write("lesions", [[0.0]], rows=SIZE, columns=SIZE)
    right, left = thorax.right_lung.any(axis=0), thorax.left_lung.any(axis=0)
    where = np.stack([~(right | left), right, left])[None].astype(np.float32) * 20
    kernel = np.zeros((3, 1, 1, 1), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["nothing"]),
            helper.make_node("Add", ["nothing", "where"], ["logits"]),
        ],
        "lungs-by-place",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(where, "where")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = model.SerializeToString()
    onnx.checker.check_model(model)
    ModelFolder(path=folder).write(
        "lungs", [[0.0]] * 3, rows=SIZE, columns=SIZE, activation="softmax", content=content
    )
    assert PRESENCE.strip() in (folder / "lesions.toml").read_text()
    return folder


@dataclass
class TinySeries:
    """The files of one series and its UID."""

    folder: Path
    uid: str
    files: list[Path]


def write_tiny_series(thorax: Thorax, folder: Path, name: str) -> TinySeries:
    """Write the series of one more patient."""
    files = write_series(thorax, folder / name, PhantomIdentity(patient_id=name))
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    return TinySeries(folder / name, str(first.SeriesInstanceUID), sorted(files))


@dataclass
class StoringPacs:
    """A storage SCP that keeps every object it was sent, and how often it came."""

    kinds: tuple[str, ...] = _RESULTS
    datasets: dict[str, Dataset] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)
    changed: list[str] = field(default_factory=list)
    _contents: dict[str, bytes] = field(default_factory=dict)
    _server: Any = None

    def start(self, port: int = 0) -> Destination:
        """Listen; return the address."""
        ae = AE(ae_title="PACS")
        for kind in self.kinds:
            ae.add_supported_context(kind, ExplicitVRLittleEndian)
        ae.maximum_pdu_size = 131072
        self._server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        port = self._server.server_address[1]
        return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)

    def stop(self) -> None:
        """End it."""
        self._server.ae.shutdown()

    def _store(self, event: Any) -> int:
        content = event.request.DataSet.getvalue()
        uid = str(event.request.AffectedSOPInstanceUID)
        if self._contents.setdefault(uid, content) != content:
            self.changed.append(uid)
        self.datasets[uid] = event.dataset
        self.times[uid] += 1
        return 0x0000

    def of_series(self, uid: str) -> dict[str, list[Dataset]]:
        """Return the objects by modality that speak of the series ``uid``."""
        found: dict[str, list[Dataset]] = {"SEG": [], "SR": []}
        for key, dataset in list(self.datasets.items()):
            if uid.encode() in self._contents[key]:
                found[str(dataset.Modality)].append(dataset)
        return found


@dataclass
class TinyNode(NodeProcess):
    """A node with tiny networks that retries soon."""

    models: Path
    destinations: list[Destination]
    extra: str = ""
    low_water: bool = True
    settle_seconds: float = 0.2
    quiet_seconds: float = 20.0
    completion: str = ""
    """More keys of that section."""
    delivery_timeout_seconds: float = 30.0

    def configuration(self) -> str:
        """Return the sections that make it quick, and ``extra``."""
        destinations = "".join(
            f'[[destinations]]\nname = "{destination.name}"\n'
            f'ae_title = "{destination.ae_title}"\n'
            f'host = "{destination.host}"\nport = {destination.port}\n'
            for destination in self.destinations
        )
        return (
            f"{'' if self.low_water else 'minimum_free_gb = 0'}\n{destinations}"
            f"[completion]\nsettle_seconds = {self.settle_seconds}\n"
            f"quiet_seconds = {self.quiet_seconds}\n"
            f"{self.completion}"
            "[delivery]\nfirst_retry_seconds = 0.2\nlongest_retry_seconds = 1.0\n"
            f"timeout_seconds = {self.delivery_timeout_seconds}\n"
            f'[analysis]\nmodels_dir = "{self.models}"\nproviders = ["CPU"]\nthreads = 1\n'
            + self.extra
        )


def _associated(port: int, timeout: float) -> Association:
    """Return an association that loses no response (see :mod:`pynetdicom_guard.reactor_gate`)."""
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout

    def gated(event: Any) -> None:
        put_gate(event.assoc)

    handlers: list[Any] = [(evt.EVT_CONN_OPEN, gated)]
    return ae.associate("127.0.0.1", port, ae_title="RALES", evt_handlers=handlers)


def send_files(port: int, files: list[Path], acknowledged: set[str]) -> bool:
    """Send files over one association; note what was answered 0x0000; tell whether all were."""
    association = _associated(port, 10)
    if not association.is_established:
        return False
    whole = True
    for path in files:
        dataset = pydicom.dcmread(path)
        if not park_reactor(association):
            whole = False
            break
        try:
            status = association.send_c_store(dataset)
        except (RuntimeError, ValueError, OSError):
            whole = False
            break
        if "Status" not in status or status.Status != 0:
            whole = False
            break
        acknowledged.add(str(dataset.SOPInstanceUID))
    if association.is_established:
        association.release()
    return whole


def send_each(port: int, files: list[Path], acknowledged: set[str]) -> list[int]:
    """Send files over one association, whatever is answered; return the statuses."""
    association = _associated(port, 60)
    assert association.is_established
    statuses = []
    for path in files:
        dataset = pydicom.dcmread(path)
        assert park_reactor(association)
        statuses.append(int(association.send_c_store(dataset).Status))
        if statuses[-1] == 0:
            acknowledged.add(str(dataset.SOPInstanceUID))
    association.release()
    return statuses
