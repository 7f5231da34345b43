"""An archive that answers too much, too long or not at all costs neither memory nor time."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer
from web_service import Service, says

from dicom_out.network.destination import Destination, Recipient, WebDestination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.prior_reports import ReportQuery, fetch_reports
from dicom_out.network.query import STUDY_ROOT_FIND, STUDY_ROOT_GET, ArchiveUnavailable
from dicom_out.network.stow import ask

pytestmark = pytest.mark.slow

PENDING, LONG = 0xFF00, 60.0
"""Seconds that no test waits: what is cut after one must not take as long as this."""


def study(number: int, day: str = "20260101") -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = "STUDY"
    found.StudyDate = day
    found.StudyInstanceUID = f"2.25.{number}"
    return found


def series(study_uid: str) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = "SERIES"
    found.StudyInstanceUID, found.SeriesInstanceUID = study_uid, f"{study_uid}.1"
    found.Modality = "SR"
    return found


@contextmanager
def archive(handlers: list[tuple[Any, Any]]) -> Iterator[Destination]:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(STUDY_ROOT_FIND)
    ae.add_supported_context(STUDY_ROOT_GET)
    ae.add_supported_context(Comprehensive3DSRStorage, scu_role=True, scp_role=True)
    ae.maximum_pdu_size = 131072
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert isinstance(server, ThreadedAssociationServer)
    try:
        port = server.server_address[1]
        yield Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    finally:
        server.ae.shutdown()


@contextmanager
def raw(serve: Callable[[socket.socket], None]) -> Iterator[Destination]:
    """Listen with a socket that does as it is told after it was called."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(1 << 16)
                serve(line)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        yield Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        thread.join(LONG)
        assert not thread.is_alive()


def fetch(recipient: Recipient, seconds: float = LONG) -> list[Dataset]:
    header = Dataset()
    header.PatientID = "P1"
    return fetch_reports(
        ReportQuery(header=header, until=date(2026, 1, 31), days=90),
        recipient,
        calling_ae="RALES",
        timeout_seconds=seconds,
    )


def trouble(recipient: Recipient, seconds: float = LONG) -> str:
    """Return why it failed, which must not have taken LONG."""
    began = time.monotonic()
    with pytest.raises(ArchiveUnavailable) as raised:
        fetch(recipient, seconds)
    assert time.monotonic() - began < LONG / 2
    return str(raised.value)


def until_it_ends(line: socket.socket) -> None:
    while line.recv(1 << 16):
        pass


def test_an_archive_that_never_stops_finding_is_cut_off() -> None:
    def find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        number = 0
        while event.assoc.is_established:
            number += 1
            yield PENDING, study(number)

    with archive([(evt.EVT_C_FIND, find)]) as pacs:
        assert "it takes too long: not at its end after 1 s" in trouble(pacs, 1.0)


def test_an_archive_that_falls_silent_is_cut_off() -> None:
    over = threading.Event()

    def find(event: evt.Event) -> Iterator[tuple[int, None]]:
        over.wait(LONG)
        yield 0x0000, None

    with archive([(evt.EVT_C_FIND, find)]) as pacs:
        assert "it takes too long: not at its end after 1 s" in trouble(pacs, 1.0)
        over.set()


def test_an_archive_that_never_accepts_is_cut_off() -> None:
    with raw(until_it_ends) as pacs:
        assert "it takes too long: not at its end after 1 s" in trouble(pacs, 1.0)


def test_a_length_that_promises_too_much_is_not_believed() -> None:
    with raw(lambda line: line.sendall(b"\x02\x00\x7f\xff\xff\xff")) as pacs:
        assert "it sends too much" in trouble(pacs)


def test_a_report_of_a_hundred_megabytes_is_not_taken() -> None:
    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        if asked.QueryRetrieveLevel == "STUDY":
            yield PENDING, study(1)
        else:
            yield PENDING, series(asked.StudyInstanceUID)

    def get(_: evt.Event) -> Iterator[Any]:
        huge = Dataset()
        huge.SOPClassUID, huge.SOPInstanceUID = Comprehensive3DSRStorage, "2.25.9"
        huge.EncapsulatedDocument = bytes(100 << 20)
        huge.file_meta = Dataset()
        huge.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield 1
        yield PENDING, huge

    with archive([(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)]) as pacs:
        assert "it sends too much" in trouble(pacs)


def test_of_many_studies_the_newest_are_looked_into() -> None:
    asked: list[str] = []

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        query = event.identifier
        if query.QueryRetrieveLevel == "SERIES":
            asked.append(str(query.StudyInstanceUID))
            return
        for number in range(1, 1000):
            yield PENDING, study(number, f"2025{1 + number % 12:02d}{1 + number % 28:02d}")
        yield PENDING, study(7777, "20260130")

    with archive([(evt.EVT_C_FIND, find)]) as pacs:
        assert fetch(pacs) == []
    assert len(asked) == 20
    assert asked[0] == "2.25.7777"


def zipped(size: int) -> Callable[[Service, Any, bytes], None]:
    return says(200, gzip.compress(b"[" + b" " * size + b"]"), **{"Content-Encoding": "gzip"})


def test_a_web_service_that_sends_too_much_is_not_read_on() -> None:
    service = Service(zipped(100 << 20))
    web = WebDestination(name="web", url=service.url)
    try:
        assert "it sends too much" in trouble(web)
        outcome = ask(web, timeout_seconds=LONG)
    finally:
        service.close()
    assert outcome.kind is OutcomeKind.FAILED
    assert "it sends too much" in outcome.message
