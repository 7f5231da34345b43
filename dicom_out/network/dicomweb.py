"""The DICOMweb requests that Rales sends: store, search and retrieve (PS3.18 section 10)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from typing import Any
from xml.etree import ElementTree as ET

from pydicom.dataset import Dataset

from chestct.uids import Uid
from dicom_out.network.allowance import Bounds, CutOff
from dicom_out.network.destination import WebDestination
from dicom_out.network.http_client import Answer, HttpClient, RequestFailed, open_client
from dicom_out.network.outcome import Outcome, failed

_JSON = frozenset({"application/dicom+json", "application/json"})
_XML = frozenset({"application/dicom+xml", "application/xml"})
DICOM_TYPES = _JSON | _XML
"""The media types of an answer that may hold a data set."""
_BOUNDARY = "0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1"
_STORE_HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
}
_SEARCH_HEADERS = {
    "Accept": "application/dicom+json, application/json",
    "Accept-Encoding": "gzip, deflate",
}
_RETRIEVE_HEADERS = {"Accept": 'multipart/related; type="application/dicom"'}
_FIRST_ERROR = 400


class ErrorStatus(Exception):
    """A service answers a search or a retrieval with an HTTP status of 400 or above."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class DicomWebClient:
    """One conversation with a DICOMweb service.

    Every method raises :class:`CutOff` and :class:`RequestFailed` as :meth:`HttpClient.request`.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def store(self, file: bytes) -> Answer:
        """Send one Part 10 file, byte for byte, to STOW-RS; return the answer, whatever it is."""
        head = f"\r\n--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join([head, file, f"\r\n--{_BOUNDARY}--".encode()])
        return self._request("POST", "/studies", headers=_STORE_HEADERS, body=body)

    def search_studies(self, query: Sequence[tuple[str, str]]) -> list[Dataset]:
        """Search for studies by QIDO-RS.

        Raises:
            ErrorStatus: The service refuses.
            ValueError: The answer is not DICOM JSON.
        """
        return self._search("/studies", query)

    def search_series(self, study_uid: Uid, query: Sequence[tuple[str, str]]) -> list[Dataset]:
        """Search for the series of a study by QIDO-RS; raises as :meth:`search_studies`."""
        return self._search(f"/studies/{study_uid}/series", query)

    def retrieve_series(self, study_uid: Uid, series_uid: Uid) -> Iterator[bytes]:
        """Yield the Part 10 files of a series by WADO-RS; raises as :meth:`search_studies`."""
        path = f"/studies/{study_uid}/series/{series_uid}"
        answer = _successful(self._request("GET", path, headers=_RETRIEVE_HEADERS))
        yield from _parts(answer)

    def _search(self, path: str, query: Sequence[tuple[str, str]]) -> list[Dataset]:
        answer = _successful(self._request("GET", path, query=query, headers=_SEARCH_HEADERS))
        matches = json.loads(answer.content) if answer.content else []
        if isinstance(matches, dict):  # some services send a single match without a list
            matches = [matches]
        return [Dataset.from_json(match) for match in matches]

    def _request(self, method: str, path: str, **options: Any) -> Answer:
        answer = self._http.request(method, path, **options)
        if answer.redirects:
            raise RequestFailed("it redirects to another address: is the URL right?", reached=False)
        return answer


@contextmanager
def dicomweb_client(destination: WebDestination, bounds: Bounds) -> Iterator[DicomWebClient]:
    """Yield a client for a DICOMweb service.

    Raises:
        RequestFailed: A file with a secret or a certificate cannot be read.
    """
    try:
        authorization = destination.credentials.authorization()
    except OSError as error:
        raise RequestFailed(f"{error.filename}: {error.strerror}", reached=False) from error
    with open_client(
        destination.url, bounds=bounds, tls=destination.tls, authorization=authorization
    ) as http:
        yield DicomWebClient(http)


def outcome_of_error(
    error: CutOff | RequestFailed | ValueError, destination: WebDestination
) -> Outcome:
    """Return the outcome of a request without a usable answer."""
    if isinstance(error, CutOff):
        return failed(f"{destination.place} was cut off: {error}")
    if isinstance(error, RequestFailed):
        return failed(str(error), reached=error.reached)
    return failed(f"its answer cannot be read: {error}")


def data_set_of(answer: Answer) -> Dataset:
    """Return the data set that an answer holds; empty where it holds none.

    Raises:
        ValueError: The content is not of the media type that the answer names.
    """
    if answer.content and answer.media_type in _JSON:
        return Dataset.from_json(json.loads(answer.content))
    if answer.content and answer.media_type in _XML:
        try:
            # At most some megabytes, and libexpat limits how far entities expand them.
            tree = ET.fromstring(answer.content)  # noqa: S314
            return Dataset.from_json(_json_model(tree))
        except ET.ParseError as error:
            raise ValueError(str(error)) from error
    return Dataset()


def _json_model(element: ET.Element) -> dict[str, Any]:
    """Return the DICOM JSON model of a Native DICOM Model in XML (PS3.19 section A.1)."""
    model = {}
    for attribute in element.iterfind("{*}DicomAttribute"):
        vr = attribute.get("vr", "UN")
        values: list[Any] = [_json_model(item) for item in attribute.iterfind("{*}Item")]
        texts = [value.text or "" for value in attribute.iterfind("{*}Value")]
        values += [int(text) for text in texts] if vr in {"US", "UL"} else texts
        model[attribute.get("tag", "")] = {"vr": vr, "Value": values}
    return model


def _successful(answer: Answer) -> Answer:
    if answer.status >= _FIRST_ERROR:
        raise ErrorStatus(answer.status)
    return answer


def _parts(answer: Answer) -> Iterator[bytes]:
    """Yield the parts of a multipart answer (RFC 2046 section 5.1)."""
    if not answer.content:
        return
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "")
    if header.get_content_type() != "multipart/related":
        raise ValueError(f"{header.get_content_type()} instead of multipart/related")
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str):  # some services send a single file without a boundary
        yield answer.content
        return
    _, *parts = (b"\r\n" + answer.content).split(f"\r\n--{boundary}".encode())
    for part in parts:
        if part.startswith(b"--"):
            return
        _, _, content = part.partition(b"\r\n\r\n")
        yield content
