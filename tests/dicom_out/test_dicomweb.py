"""Our DICOMweb messages against those of dicomweb-client, which shares no code with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from sending import store
from web_service import Service, says

from chestct.results import ResultObject
from chestct.uids import Uid
from dicom_out.network.allowance import Bounds
from dicom_out.network.destination import WebDestination
from dicom_out.network.dicomweb import data_set_of, dicomweb_client
from dicom_out.network.http_client import Answer

BOUNDS = Bounds(silence_seconds=10, whole_seconds=30, most_bytes=1 << 20)
MULTIPART = 'multipart/related; type="application/dicom"; boundary="b0-1"'
FILES = [b"first\r\n--b0", b"", b"second\r\n"]


@pytest.fixture
def service() -> Iterator[Callable[..., WebDestination]]:
    started: list[Service] = []

    def serve(answer: Any) -> WebDestination:
        started.append(Service(answer))
        return WebDestination(name="web", url=started[-1].url)

    yield serve
    for one in started:
        one.close()


def test_what_we_send_is_what_dicomweb_client_reads(
    make_object: Callable[..., ResultObject],
) -> None:
    received: list[bytes] = []

    def read(_: Service, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        message = requests.Response()
        message.headers["content-type"] = handler.headers["Content-Type"]
        message.raw = BytesIO(body)
        received.extend(
            DICOMwebClient("http://pacs")._decode_multipart_message(message, stream=False)
        )
        handler.send_response(200)
        handler.end_headers()

    server = Service(read)
    try:
        item = make_object()
        store([item], WebDestination(name="web", url=server.url), timeout_seconds=5)
    finally:
        server.close()
    assert received == [item.path.read_bytes()]


def test_what_dicomweb_client_writes_is_what_we_read(
    service: Callable[..., WebDestination],
) -> None:
    body = DICOMwebClient._encode_multipart_message(FILES, MULTIPART)
    with dicomweb_client(service(says(200, body, MULTIPART)), BOUNDS) as client:
        assert list(client.retrieve_series(Uid("1.2"), Uid("1.2.3"))) == FILES


def test_a_search_is_the_request_that_dicomweb_client_makes(
    service: Callable[..., WebDestination],
) -> None:
    asked: list[str] = []

    def note(server: Service, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.append(handler.path)
        says(200, [{"0020000D": {"vr": "UI", "Value": ["1.2"]}}])(server, handler, body)

    destination = service(note)
    with dicomweb_client(destination, BOUNDS) as client:
        query = [("PatientID", "A B+C&D"), ("StudyDate", "20250101-20260101")]
        (study,) = client.search_studies([*query, ("limit", "20")])
        client.search_series(Uid("1.2"), [("includefield", "SeriesDescription")])
    other = DICOMwebClient(destination.url)
    other.search_for_studies(limit=20, search_filters=dict(query))
    other.search_for_series("1.2", fields=["SeriesDescription"])
    assert study.StudyInstanceUID == "1.2"
    assert asked[:2] == asked[2:]


@pytest.mark.parametrize("base", ["", "/", "/dicom-web", "/dicom-web/"])
def test_a_request_goes_below_the_url_with_one_slash(
    base: str, make_object: Callable[..., ResultObject]
) -> None:
    asked: list[str] = []

    def note(server: Service, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.append(handler.requestline.split(" ")[1])  # http.server merges slashes in path
        says(200, [] if handler.command == "GET" else None)(server, handler, body)

    server = Service(note)
    try:
        root = server.url.removesuffix("/dicom-web")
        destination = WebDestination(name="web", url=root + base)
        store([make_object()], destination, timeout_seconds=5)
        with dicomweb_client(destination, BOUNDS) as client:
            client.search_studies([("limit", "1")])
    finally:
        server.close()
    expected = base.rstrip("/") + "/studies"
    assert asked == [expected, f"{expected}?limit=1"]


def test_a_report_in_xml_says_what_it_says_in_json() -> None:
    report = pydicom.Dataset()
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.FailureReason = "1.2.3", 0x0110
    report.FailedSOPSequence = [item]
    report.RetrieveURL = "http://pacs/studies/1"
    xml = b"""<?xml version="1.0"?>
        <NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
        <DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL">
        <Value number="1">http://pacs/studies/1</Value></DicomAttribute>
        <DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">
        <DicomAttribute tag="00081155" vr="UI" keyword="ReferencedSOPInstanceUID">
        <Value number="1">1.2.3</Value></DicomAttribute>
        <DicomAttribute tag="00081197" vr="US" keyword="FailureReason">
        <Value number="1">272</Value></DicomAttribute></Item></DicomAttribute>
        </NativeDicomModel>"""
    forms = {
        "application/dicom+xml; charset=utf-8": xml,
        "application/dicom+json; charset=utf-8": report.to_json().encode(),
    }
    for kind, content in forms.items():
        answer = Answer(status=202, headers={"Content-Type": kind}, content=content)
        assert data_set_of(answer) == report
