"""Writes what was asked for beside SEG and SR: pictures and pointers for simpler viewers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.errors import ResultInvalid
from chestct.results import AnalysisKey, Extra, ModelIdentity, ResultObject
from chestct.series import Series
from chestct.volume import LesionMap, Volume
from dicom_out.objects.captures import (
    Picture,
    Provenance,
    colour_overlay,
    encapsulated_pdf,
    secondary_capture,
)
from dicom_out.objects.identity import SoftwareIdentity
from dicom_out.objects.pointers import key_objects, presentation_state
from dicom_out.objects.sources import read_sources
from dicom_out.objects.written import encode, verify, write

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawings:
    """What the pictures show; each is drawn when it is needed.

    Attributes:
        page: The summary (row, column, 3).
        pdf: The same as a PDF file.
        frames: Every slice of the lungs with its outlines (frame, row, column, 3), and the place
            of each along the axis of the patient in mm.
    """

    page: Callable[[], Picture]
    pdf: Callable[[], bytes]
    frames: Callable[[], tuple[NDArray[np.uint8], Sequence[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What was written, and what could not be made (not: what has nothing to show)."""

    objects: tuple[ResultObject, ...] = ()
    left_out: tuple[Extra, ...] = ()


def compose_extras(
    extras: Sequence[Extra],
    drawings: Drawings,
    *,
    series: Series,
    volume: Volume,
    lesion_map: LesionMap,
    models: tuple[ModelIdentity, ...],
    key: AnalysisKey,
    folder: Path,
    created: datetime,
    software: SoftwareIdentity,
) -> Extras:
    """Write each of ``extras`` that has something to show; the same arguments give the same.

    A picture is worth less than the SEG and the report: one that cannot be made, or does not
    read back, is left out and said.

    Raises:
        ResultInvalid: The source images cannot be read.
        OSError: The files cannot be written.
    """
    if not extras:
        return Extras()
    made = Provenance(
        sources=read_sources(series, volume),
        models=models,
        key=key,
        created=created,
        software=software,
    )
    builders: Mapping[Extra, Callable[[], Dataset | None]] = {
        Extra.SECONDARY_CAPTURE: lambda: secondary_capture(drawings.page(), made),
        Extra.COLOUR_OVERLAY: lambda: colour_overlay(*drawings.frames(), made),
        Extra.PRESENTATION_STATE: lambda: presentation_state(lesion_map, made),
        Extra.ENCAPSULATED_PDF: lambda: encapsulated_pdf(drawings.pdf(), made),
        Extra.KEY_OBJECTS: lambda: key_objects(lesion_map, made),
    }
    written, left_out = [], []
    for extra in extras:
        try:
            content = _built(builders[extra], made, volume)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - no picture must cost the result, whatever fails
            _LOG.error("the %s cannot be made and is left out (%s)", extra, type(error).__name__)
            _LOG.debug("why the %s cannot be made", extra, exc_info=error)
            left_out.append(extra)
            continue
        if content is not None:
            written.append(write(folder / f"{extra}.dcm", str(extra), *content))
    return Extras(objects=tuple(written), left_out=tuple(left_out))


def _built(
    build: Callable[[], Dataset | None], made: Provenance, volume: Volume
) -> tuple[bytes, Dataset] | None:
    """Return an extra as a file and as a data set; None where it has nothing to show."""
    dataset = build()
    if dataset is None:
        return None
    content = encode(dataset)
    verify(content, made.sources, volume)
    _verify_same(content, dataset)
    return content, dataset


def _verify_same(content: bytes, dataset: Dataset) -> None:
    """Check that what was drawn or outlined reads back."""
    result = pydicom.dcmread(BytesIO(content))
    for keyword in ("PixelData", "EncapsulatedDocument", "GraphicAnnotationSequence"):
        if dataset.get(keyword) != result.get(keyword):
            raise ResultInvalid(f"the {keyword} of a result does not read back as it was made")
