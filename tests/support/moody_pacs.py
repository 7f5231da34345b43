"""A destination with moods: away, trickling, refusing, losing answers; it keeps what it took.

What it answers to an object hangs on the seed, the object and how often it came, so that the
same seed gives the same answers. Its weather (away, a class refused, trickling) goes by the clock.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_out.network.destination import Destination

_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
_SR = "1.2.840.10008.5.1.4.1.1.88.34"
_HERE = "127.0.0.1"
_PIECE = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What matters of an object that was kept.

    Attributes:
        uid: Its SOP Instance UID.
        kind: Its Modality.
        series: The series that it speaks of.
        images: The source images that it refers to.
        predecessors: The reports that it says it replaces.
    """

    uid: str
    kind: str
    series: str
    images: frozenset[str]
    predecessors: frozenset[str] = frozenset()

    @classmethod
    def of(cls, dataset: Dataset) -> Kept:
        """Read a SEG or an SR."""
        studies = dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
        series = [one for study in studies for one in study.ReferencedSeriesSequence]
        series += list(dataset.get("ReferencedSeriesSequence", []))
        images: set[str] = set()
        uids: set[str] = set()
        for one in series:
            found = one.get("ReferencedSOPSequence") or one.get("ReferencedInstanceSequence") or []
            own = {
                str(item.ReferencedSOPInstanceUID)
                for item in found
                if item.ReferencedSOPClassUID == CTImageStorage
            }
            images |= own
            uids |= {str(one.SeriesInstanceUID)} if own else set()
        (uid,) = uids
        before = {
            str(item.ReferencedSOPInstanceUID)
            for study in dataset.get("PredecessorDocumentsSequence", [])
            for one in study.ReferencedSeriesSequence
            for item in one.ReferencedSOPSequence
        }
        return cls(
            uid=str(dataset.SOPInstanceUID),
            kind=str(dataset.Modality),
            series=uid,
            images=frozenset(images),
            predecessors=frozenset(before),
        )


class Weather(Enum):
    """What the whole destination does for a while."""

    CLEAR = "clear"
    AWAY = "away"
    NO_SEG = "refuses SEG"
    NO_SR = "refuses SR"
    TRICKLING = "trickling"


class Relay:
    """Passes bytes between the node and the server; can be away, and can trickle."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._port = 0
        self.trickles = threading.Event()
        self._pause = threading.Event()

    def listen(self) -> int:
        """Begin to take connections; return the port, always the same."""
        self._listener = socket.create_server((_HERE, self._port))
        self._port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()
        return self._port

    def leave(self) -> None:
        """Take no more, and cut what stands."""
        if self._listener is not None:
            # A thread that waits in accept() keeps the port open over a close alone.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for one in list(self._open):
            _hang_up(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
                server = socket.create_connection((_HERE, self._server))
            except OSError:
                return
            self._open |= {caller, server}
            for source, sink, back in ((caller, server, False), (server, caller, True)):
                arguments = (source, sink, back)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:  # noqa: FBT001
        try:
            while piece := source.recv(_PIECE):
                while piece:
                    now = piece
                    if back and self.trickles.is_set():
                        self._pause.wait(0.1)
                        now = piece[:1]
                    sink.sendall(now)
                    piece = piece[len(now) :]
        except OSError:
            pass
        for one in (source, sink):
            _hang_up(one)
            self._open.discard(one)


def _hang_up(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class MoodyPacs:
    """See the module. ``faults`` counts what it did by its name."""

    def __init__(self, seed: int) -> None:
        self.kept: dict[str, Kept] = {}
        self.changed: list[str] = []
        self.faults: dict[str, int] = {}
        self._seed = seed
        self._calm = threading.Event()
        self._contents: dict[str, bytes] = {}
        self._times: dict[str, int] = {}
        self._ae = AE(ae_title="PACS")
        self._ae.maximum_pdu_size = 131072
        self._server: Any = None
        self._relay: Relay | None = None
        self._clouds = threading.Thread(target=self._change, daemon=True)

    def start(self) -> Destination:
        """Listen, and begin to change; return the address."""
        self._serve(_SEG, _SR)
        self._relay = Relay(self._server.server_address[1])
        port = self._relay.listen()
        self._clouds.start()
        return Destination(name="pacs", ae_title="PACS", host=_HERE, port=port)

    def calm_down(self) -> None:
        """Take everything from now on."""
        self._calm.set()
        self._clouds.join(60)

    def stop(self) -> None:
        """End it."""
        self.calm_down()
        if self._relay is not None:
            self._relay.leave()
        self._ae.shutdown()

    def _serve(self, *kinds: str) -> None:
        for kind in (_SEG, _SR):
            self._ae.remove_supported_context(kind)
        for kind in kinds:
            self._ae.add_supported_context(kind, ExplicitVRLittleEndian)
        if self._server is None:
            self._server = self._ae.start_server(
                (_HERE, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
            )
        self._server.contexts = self._ae.supported_contexts

    def _change(self) -> None:
        chance = random.Random(self._seed)  # noqa: S311 - no secret
        weathers = [one for one in Weather if one is not Weather.CLEAR]
        while not self._calm.wait(chance.uniform(2, 8)):
            weather = chance.choice(weathers)
            self._count(weather.value)
            self._begin(weather)
            self._calm.wait(chance.uniform(1, 5))
            self._end(weather)

    def _begin(self, weather: Weather) -> None:
        assert self._relay is not None
        if weather is Weather.AWAY:
            self._relay.leave()
        elif weather is Weather.TRICKLING:
            self._relay.trickles.set()
        else:
            self._serve(_SR if weather is Weather.NO_SEG else _SEG)

    def _end(self, weather: Weather) -> None:
        assert self._relay is not None
        self._relay.trickles.clear()
        if weather is Weather.AWAY:
            self._relay.listen()
        self._serve(_SEG, _SR)

    def _count(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        times = self._times[uid] = self._times.get(uid, 0) + 1
        chance = random.Random(f"{self._seed} {uid} {times}").random()  # noqa: S311 - no secret
        if self._calm.is_set():
            chance = 1.0
        again = uid in self.kept
        if not again and chance < 0.1:
            self._count("answered out of resources")
            return 0xA700
        self._keep(event, uid)
        if again and chance < 0.5:
            self._count("answered 0x0111 to what it had")
            return 0x0111
        if not again and chance < 0.2:
            self._count("stored, and hung up without an answer")
            event.assoc.abort()
        elif not again and chance < 0.22:
            self._count("stored, and answered after the time-out")
            self._calm.wait(5)
        elif not again and chance < 0.25:
            self._count("stored with a warning")
            return 0xB000
        return 0x0000

    def _keep(self, event: Any, uid: str) -> None:
        content = event.request.DataSet.getvalue()
        if self._contents.setdefault(uid, content) != content:
            self.changed.append(uid)
        self.kept[uid] = Kept.of(event.dataset)
