"""What an archive says of the number of images, through real sockets."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from counting_archive import LONG, answer, counting_archive
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from web_service import Service, says

from chestct.uids import Uid
from dicom_out.network.counting import NoCount, count_images
from dicom_out.network.destination import Destination, Recipient, WebDestination
from dicom_out.network.query import ArchiveUnavailable
from phantom import PhantomIdentity, make_thorax, small_spec, write_series
from rales.demo.pacs import MODALITY, has_dicomweb, start_pacs

pytestmark = pytest.mark.slow

STUDY, SERIES = Uid("1.2.3"), Uid("1.2.3.4")


def count(archive: Recipient | None, seconds: float = LONG, series: str = SERIES) -> int:
    assert archive is not None
    return count_images(STUDY, Uid(series), archive, calling_ae="RALES", timeout_seconds=seconds)


def asked(series: str = SERIES) -> Dataset:
    query = Dataset()
    query.StudyInstanceUID, query.SeriesInstanceUID = STUDY, series
    return query


@pytest.mark.parametrize("number", [0, 1, 65, b"65", b" 065 "])
def test_the_number_of_one_series_is_asked_for_and_returned(number: int | bytes) -> None:
    with counting_archive(lambda _: number) as archive:
        assert count(archive.destination) == int(number)
    (query,) = archive.asked
    assert query.QueryRetrieveLevel == "SERIES"
    assert (query.StudyInstanceUID, query.SeriesInstanceUID) == (STUDY, SERIES)
    assert "NumberOfSeriesRelatedInstances" in query
    assert len(query) == 4, "no patient is named"


def test_of_an_archive_that_answers_with_all_series_the_one_counts() -> None:
    found = [answer(asked("1.9"), 7), answer(asked(), 65), answer(asked("1.8"), b"many")]
    with counting_archive(lambda _: found) as archive:
        assert count(archive.destination) == 65
    with counting_archive(lambda _: found[::2]) as archive:
        assert count(archive.destination) == 0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "has no number"),
        (b"", "has no number"),
        (b"many", "is no number"),
        (b"6.5", "is no number"),
        (b"65\\66", "is no number"),
        (b"-1", "is no number"),
        (b"999999999", "is above"),
        ([answer(asked(), 65), answer(asked(), 41)], "different numbers"),
    ],
)
def test_what_is_no_number_is_none(said: Any, why: str) -> None:
    with counting_archive(lambda _: said) as archive, pytest.raises(NoCount, match=why):
        count(archive.destination)


def test_a_refusal_says_its_status() -> None:
    with (
        counting_archive(lambda _: (0xA700, None)) as archive,
        pytest.raises(ArchiveUnavailable, match="0xA700"),
    ):
        count(archive.destination)


def test_an_archive_that_hangs_is_left_in_time() -> None:
    with counting_archive(lambda _: None) as archive:
        archive.says = archive.hang
        began = time.monotonic()
        with pytest.raises(ArchiveUnavailable, match="it takes too long"):
            count(archive.destination, 1.0)
        assert time.monotonic() - began < LONG / 2
        archive.over.set()


def test_an_archive_that_sends_too_much_is_left() -> None:
    found = [answer(asked("1.9"), 7, ImageComments="x" * 10_000) for _ in range(500)]
    with (
        counting_archive(lambda _: found) as archive,
        pytest.raises(ArchiveUnavailable, match="it sends too much"),
    ):
        count(archive.destination)


def test_nobody_there_is_said() -> None:
    with counting_archive(lambda _: 65) as archive:
        gone = archive.destination
    with pytest.raises(ArchiveUnavailable):
        count(gone, 5.0)


def _series(uid: str, number: object) -> dict[str, Any]:
    return {
        "0020000E": {"vr": "UI", "Value": [uid]},
        "00201209": {"vr": "IS", "Value": [number]},
    }


@pytest.mark.parametrize(
    ("answers", "number"),
    [
        (says(200, [_series(SERIES, 65)]), 65),
        (says(200, [_series("1.9", 7), _series(SERIES, 65)]), 65),
        (says(200, []), 0),
        (says(204), 0),
    ],
)
def test_a_web_service_is_asked_likewise(answers: Any, number: int) -> None:
    service = Service(answers)
    try:
        assert count(WebDestination(name="web", url=service.url)) == number
    finally:
        service.close()


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        (says(404), NoCount),
        (says(200, [_series(SERIES, "many")]), (NoCount, ArchiveUnavailable)),
        (says(200, [{"0020000E": {"vr": "UI", "Value": [SERIES]}}]), NoCount),
        (says(500), ArchiveUnavailable),
        (says(200, {"error": 1}), ArchiveUnavailable),
        (says(200, [[]]), ArchiveUnavailable),
        (says(200, b"[" + b" " * (8 << 20) + b"]"), ArchiveUnavailable),
    ],
)
def test_a_web_service_that_does_not_say_is_no_evidence(answers: Any, error: Any) -> None:
    service = Service(answers)
    try:
        with pytest.raises(error):
            count(WebDestination(name="web", url=service.url))
    finally:
        service.close()


@pytest.mark.orthanc
def test_orthanc_says_how_many_it_has_either_way(tmp_path: Path) -> None:
    if shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("Orthanc is not installed")
    files = write_series(make_thorax(small_spec()), tmp_path / "in", PhantomIdentity())
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    with start_pacs(tmp_path / "pacs", "RALES") as pacs:
        ways: list[Recipient] = [pacs.destination]
        if has_dicomweb():
            ways.append(WebDestination(name="web", url=f"{pacs.url}/dicom-web"))

        def counts() -> list[int]:
            return [
                count_images(
                    Uid(first.StudyInstanceUID),
                    Uid(first.SeriesInstanceUID),
                    way,
                    calling_ae="RALES",
                    timeout_seconds=LONG,
                )
                for way in ways
            ]

        assert set(counts()) == {0}
        _store(pacs.destination, files[:3])
        assert set(counts()) == {3}
        _store(pacs.destination, files)
        assert set(counts()) == {len(files)}


def _store(pacs: Destination, files: list[Path]) -> None:
    ae = AE(ae_title=MODALITY)
    ae.add_requested_context(CTImageStorage)
    association = ae.associate(pacs.host, pacs.port, ae_title=pacs.ae_title)
    assert association.is_established
    for file in files:
        assert association.send_c_store(pydicom.dcmread(file)).Status == 0
    association.release()
