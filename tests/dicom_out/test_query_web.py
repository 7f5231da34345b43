"""Archives that answer what no archive should."""

from __future__ import annotations

from datetime import date

import pytest
from pydicom.dataset import Dataset
from web_service import Service, says

from dicom_out.network.destination import WebDestination
from dicom_out.network.prior_reports import ReportQuery, fetch_reports
from dicom_out.network.query import ArchiveUnavailable


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
                ReportQuery(header=header, until=date(2026, 1, 1), days=9),
                WebDestination(name="web", url=service.url),
                calling_ae="RALES",
                timeout_seconds=5,
            )
    finally:
        service.close()
    assert "SECRET7" not in str(raised.value)
