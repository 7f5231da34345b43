"""Pictures travel compressed without loss where the destination accepts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from chest_cases import make_case
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from chestct.results import Extra, ResultObject
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.sender import send_each
from dicom_out.objects.extras import compose_extras
from rales.pictures.page import drawings_of

pytestmark = pytest.mark.slow

DEFLATED = DeflatedExplicitVRLittleEndian
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
PICTURES = (Extra.SECONDARY_CAPTURE, Extra.COLOUR_OVERLAY)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultObject, ...]:
    folder = tmp_path_factory.mktemp("pictures")
    case = make_case(folder / "series")
    sources = case.sources()
    drawings = drawings_of(case.analysed(), sources)
    return compose_extras(PICTURES, drawings, case.analysed(), sources, folder).objects


@pytest.mark.parametrize(
    ("accepted", "compress", "used"),
    [
        ((*PLAIN, DEFLATED, JPEG2000Lossless), False, JPEG2000Lossless),
        ((*PLAIN, DEFLATED), True, DEFLATED),
        ((*PLAIN, DEFLATED), False, ExplicitVRLittleEndian),
        (PLAIN, True, ExplicitVRLittleEndian),
    ],
)
def test_a_picture_travels_in_the_smallest_form_that_is_accepted(
    *,
    accepted: tuple[str, ...],
    compress: bool,
    used: UID,
    pictures: tuple[ResultObject, ...],
    start_scp: Callable[..., Destination],
) -> None:
    arrived: dict[str, tuple[UID, Dataset, int]] = {}

    def store(event: Any) -> int:
        dataset: Dataset = event.dataset
        dataset.file_meta = event.file_meta
        size = len(event.request.DataSet.getvalue())
        arrived[dataset.SOPInstanceUID] = event.context.transfer_syntax, dataset, size
        return 0x0000

    classes = tuple(item.sop_class_uid for item in pictures)
    scp = replace(start_scp(store, kinds=classes, syntaxes=accepted), compress=compress)
    outcomes = list(send_each(pictures, scp, calling_ae="RALES", timeout_seconds=10))
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.DELIVERED] * 2
    for item in pictures:
        syntax, received, size = arrived[item.sop_instance_uid]
        written = pydicom.dcmread(item.path)
        assert syntax == used
        assert np.array_equal(received.pixel_array, written.pixel_array)
        assert (size < item.size / 3) == (used not in PLAIN)
        is_transformed = used == JPEG2000Lossless
        colours = "YBR_RCT" if is_transformed else "RGB"
        assert received.PhotometricInterpretation == colours
        for keyword in ("PixelData", "PhotometricInterpretation"):
            del received[keyword], written[keyword]
        assert received == written, "nothing else has changed"


def test_the_compressed_form_is_valid(pictures: tuple[ResultObject, ...], tmp_path: Path) -> None:
    from judges import run  # noqa: PLC0415

    from dicom_out.encodings import data_set_of, in_syntax  # noqa: PLC0415

    for item in pictures:
        content = item.path.read_bytes()
        dataset = pydicom.dcmread(item.path)
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        compressed = in_syntax(data_set_of(content), JPEG2000Lossless)
        path = tmp_path / item.path.name
        head = pydicom.filebase.DicomBytesIO()
        head.is_little_endian, head.is_implicit_VR = True, False
        pydicom.filewriter.write_file_meta_info(head, dataset.file_meta)
        path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + compressed)
        done = run("dciodvfy", path)
        said = (done.stdout + done.stderr).splitlines()
        assert [line for line in said if line.startswith("Error")] == []
