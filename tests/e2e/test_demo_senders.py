"""The demo and the viewer send the series of a user in the transfer syntax of its files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from conformance_series import Variant, lungs
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLSLossless

from rales.demo.pacs import start_pacs
from rales.demo.run import send_series

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_a_series_is_sent_in_its_transfer_syntax(syntax: UID, tmp_path: Path) -> None:
    series, _files = Variant(labels=lungs(), syntax=syntax).write(tmp_path / "series")
    with start_pacs(tmp_path / "pacs", "RALES") as pacs:
        send_series(tmp_path / "series", pacs.destination)
        for instance in series.instances:
            content = pacs.fetch(instance.sop_instance_uid)
            assert content is not None
            assert pydicom.dcmread(BytesIO(content)).file_meta.TransferSyntaxUID == syntax
