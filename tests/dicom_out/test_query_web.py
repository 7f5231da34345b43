"""Archives that answer what no archive should."""

from __future__ import annotations

import time
from datetime import date
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian
from web_service import Service, says

from dicom_out.query import ArchiveUnavailable, Wanted, _Basket, fetch_reports
from dicom_out.stow import WebDestination


@pytest.mark.parametrize(
    "answer",
    [says(500), says(200, {"error": 1}), says(200, [{"0020000D": 7}]), says(200, [[]])],
    ids=["an error", "no list", "no element", "no data set"],
)
def test_whatever_it_answers_is_said_without_the_patient(answer: object) -> None:
    header = Dataset()
    header.PatientID = "SECRET7"
    service = Service(answer, None)
    try:
        with pytest.raises(ArchiveUnavailable) as raised:
            fetch_reports(
                Wanted(header=header, until=date(2026, 1, 1), days=9),
                WebDestination(name="web", url=service.url),
                calling_ae="RALES",
                timeout_seconds=5,
            )
    finally:
        service.close()
    assert "SECRET7" not in str(raised.value)


def test_a_get_that_stores_for_ever_is_aborted_when_the_time_is_up() -> None:
    aborted: list[bool] = []

    def store(until: float) -> int:
        request = SimpleNamespace(
            DataSet=BytesIO(b""),
            AffectedSOPClassUID=Comprehensive3DSRStorage,
            AffectedSOPInstanceUID="2.25.1",
        )
        event: Any = SimpleNamespace(
            request=request,
            context=SimpleNamespace(transfer_syntax=ExplicitVRLittleEndian),
            assoc=SimpleNamespace(abort=lambda: aborted.append(True)),
        )
        return _Basket(until=until).store(event)

    assert store(time.monotonic() + 60) == 0x0000
    assert not aborted
    assert store(time.monotonic() - 1) == 0xA702
    assert aborted
