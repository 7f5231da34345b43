"""An archive that says how many images of a series it has: a real C-FIND SCP that does as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from dicom_out.network.destination import Destination
from dicom_out.network.query import STUDY_ROOT_FIND

_NUMBER = Tag("NumberOfSeriesRelatedInstances")
LONG = 60.0
"""Seconds that no test waits."""


@dataclass
class CountingArchive:
    """Answers C-FIND on series level with what ``says`` returns, and keeps what it was asked.

    ``says`` gets the Series Instance UID and returns a number, the bytes of one, None for an
    answer without a number, or a list of whole answers; it may hang.
    """

    says: Callable[[str], Any]
    asked: list[Dataset] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set it to end what hangs."""
    destination: Destination | None = None

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer."""
        query = event.identifier
        self.asked.append(query)
        said = self.says(str(query.SeriesInstanceUID))
        if isinstance(said, list):
            yield from ((0xFF00, one) for one in said)
        elif isinstance(said, tuple):
            yield said
        elif said != 0:
            yield 0xFF00, answer(query, said)

    def hang(self, _series_uid: str) -> int:
        """Say nothing until the test is over."""
        self.over.wait(LONG)
        return 0


def answer(query: Dataset, number: int | bytes | None, **known: str) -> Dataset:
    """Return an answer to a query with a number, that need not be one."""
    found = Dataset()
    found.QueryRetrieveLevel = "SERIES"
    found.StudyInstanceUID = query.StudyInstanceUID
    found.SeriesInstanceUID = query.SeriesInstanceUID
    for keyword, value in known.items():
        setattr(found, keyword, value)
    if number is not None:
        value = number.decode() if isinstance(number, bytes) else str(number)
        # Under implicit VR the text goes out as it is, and is read as IS.
        found.add(DataElement(_NUMBER, "LO", value))
    return found


@contextmanager
def counting_archive(says: Callable[[str], Any]) -> Iterator[CountingArchive]:
    """Run an archive on a port of its own."""
    archive = CountingArchive(says)
    ae = AE(ae_title="PACS")
    ae.add_supported_context(STUDY_ROOT_FIND, ImplicitVRLittleEndian)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, archive.find)]
    )
    assert isinstance(server, ThreadedAssociationServer)
    port = server.server_address[1]
    archive.destination = Destination(name="archive", ae_title="PACS", host="127.0.0.1", port=port)
    try:
        yield archive
    finally:
        archive.over.set()
        server.ae.shutdown()
