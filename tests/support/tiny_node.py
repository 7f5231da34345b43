"""A real node on tiny networks and tiny phantoms: quick enough to be killed many times.

The networks say where the lungs are by position alone, and never see a lesion; receiver,
state file, analysis process, writers and deliveries are the real ones.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pydicom
from linear_models import PRESENCE, ModelFolder
from onnx import TensorProto, helper, numpy_helper
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_out.network.destination import Destination
from phantom import PhantomIdentity, Thorax, make_thorax, small_spec, write_series
from pynetdicom_guard.reactor_gate import ReactorGate, park_reactor
from rales.demo.pacs import answers, free_port

DEADLINE = 120.0
SIZE = 64
ENDED = ("done", "rejected", "failed", "superseded")
_RESULTS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34")


def wait_for(what: str, look: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """Return the first answer of ``look`` that is neither None nor False."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        answer = look()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {deadline:.0f} s for {what}")


SLICES = 38
"""Of a tiny series: 185 mm, so that it counts as a whole chest when its association ends."""


def tiny_thorax() -> Thorax:
    """Return a thorax of slices of 64 by 64 pixels, without lesions.

    Its lungs end inside it, so that nothing waits for more of them.
    """
    thorax = make_thorax(
        small_spec(
            shape=(SLICES, SIZE, SIZE), pixel_spacing_mm=5.9, slice_spacing_mm=5.0, lesions=()
        )
    )
    right, left = thorax.right_lung.copy(), thorax.left_lung.copy()
    ends = np.ones((SLICES, 1, 1), dtype=bool)
    ends[2:-2] = False
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
class TinyNode:
    """``rales serve`` as a process of its own."""

    folder: Path
    models: Path
    destinations: list[Destination]
    extra: str = ""
    low_water: bool = True
    settle_seconds: float = 0.2
    quiet_seconds: float = 20.0
    completion: str = ""
    """More keys of that section."""
    delivery_timeout_seconds: float = 30.0
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / "data" / "state.sqlite"

    def write_config(self) -> Path:
        """Write the configuration file; return its path."""
        path = self.folder / "rales.toml"
        places = "".join(
            f'[[destinations]]\nname = "{one.name}"\nae_title = "{one.ae_title}"\n'
            f'host = "{one.host}"\nport = {one.port}\n'
            for one in self.destinations
        )
        path.write_text(
            f'[node]\nae_title = "RALES"\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'data_dir = "data"\n{"" if self.low_water else "minimum_free_gb = 0"}\n{places}'
            f"[completion]\nsettle_seconds = {self.settle_seconds}\n"
            f"quiet_seconds = {self.quiet_seconds}\n"
            f"{self.completion}"
            "[delivery]\nfirst_retry_seconds = 0.2\nlongest_retry_seconds = 1.0\n"
            f"timeout_seconds = {self.delivery_timeout_seconds}\n"
            f'[analysis]\nmodels_dir = "{self.models}"\nproviders = ["CPU"]\nthreads = 1\n'
            + self.extra
        )
        return path

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-m", "rales", "serve", "--config", str(self.write_config())]

    def launch(self) -> None:
        """Start it and do not wait."""
        with (self.folder / "rales.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | self.environment,
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        itself = Destination(name="node", ae_title="RALES", host="127.0.0.1", port=self.port)

        def up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            return bool(answers(itself))

        wait_for("the node to answer", up)

    def log(self) -> str:
        """Return what it logged."""
        path = self.folder / "rales.log"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """Kill the node alone, as the OOM killer does; its analysis process must follow."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def terminate(self) -> int:
        """End it with SIGTERM; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self) -> None:
        """Kill what a failed test left running."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the state file, while the node runs or not."""
        if not self.state.exists():
            return []
        with sqlite3.connect(f"file:{self.state}?mode=ro", uri=True, timeout=20) as connection:
            rows = connection.execute(sql, parameters).fetchall()
        connection.close()
        return rows

    def jobs(self, series_uid: str) -> list[tuple[str, str]]:
        """Return (state, reason) of each revision of a series."""
        sql = "SELECT state, reason FROM jobs WHERE series_uid = ? ORDER BY revision"
        return [(row[0], row[1]) for row in self.rows(sql, series_uid)]

    def ended(self, series_uid: str, deadline: float = DEADLINE) -> str:
        """Wait until every revision of a series has ended; return the state of the newest."""

        def look() -> str | None:
            states = [state for state, _ in self.jobs(series_uid)]
            return states[-1] if states and all(one in ENDED for one in states) else None

        state: str = wait_for(f"the end of {series_uid}", look, deadline)
        return state


def _associated(port: int, timeout: float) -> Association:
    """Return an association that loses no response (see :mod:`pynetdicom_guard.reactor_gate`)."""
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout

    def gated(event: Any) -> None:
        event.assoc._reactor_checkpoint = ReactorGate()

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
