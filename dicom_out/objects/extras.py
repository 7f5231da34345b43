"""Writes the extras of one analysed series: pictures and references for viewers without SEG."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.errors import ResultInvalid
from chestct.results import Extra, ResultObject
from dicom_out.objects.captures import (
    OverlayFrames,
    Picture,
    colour_overlay,
    encapsulated_pdf,
    secondary_capture,
)
from dicom_out.objects.pointers import key_objects, presentation_state
from dicom_out.objects.sources import Sources
from dicom_out.objects.written import EncodedObject, encode, verify

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawings:
    """The pictures of an analysed series; each is drawn when it is called.

    Attributes:
        page: The summary (row, column, 3).
        pdf: The summary as a PDF file.
        frames: Every slice of the lungs with its outlines.
    """

    page: Callable[[], Picture]
    pdf: Callable[[], bytes]
    frames: Callable[[], OverlayFrames]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """The extras that were written, and those that failed.

    An extra that has nothing to show is in neither.
    """

    objects: tuple[ResultObject, ...] = ()
    left_out: tuple[Extra, ...] = ()


def compose_extras(
    extras: Sequence[Extra],
    drawings: Drawings,
    analysed: AnalysedSeries,
    sources: Sources,
    folder: Path,
) -> Extras:
    """Write each of ``extras`` that has something to show; the same arguments write the same bytes.

    An extra is worth less than the SEG and the SR: one that fails, or does not read back, is left
    out and logged.

    Raises:
        OSError: The files cannot be written.
    """
    builders: Mapping[Extra, Callable[[], Dataset | None]] = {
        Extra.SECONDARY_CAPTURE: lambda: secondary_capture(drawings.page(), analysed, sources),
        Extra.COLOUR_OVERLAY: lambda: colour_overlay(drawings.frames(), analysed, sources),
        Extra.PRESENTATION_STATE: lambda: presentation_state(analysed, sources),
        Extra.ENCAPSULATED_PDF: lambda: encapsulated_pdf(drawings.pdf(), analysed, sources),
        Extra.KEY_OBJECTS: lambda: key_objects(analysed, sources),
    }
    objects, left_out = [], []
    for extra in extras:
        try:
            encoded = _verified(extra, builders[extra](), analysed, sources)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - no extra may cost the result, whatever fails
            _LOG.error("the %s cannot be written and is left out (%s)", extra, type(error).__name__)
            _LOG.debug("why the %s cannot be written", extra, exc_info=error)
            left_out.append(extra)
            continue
        if encoded is not None:
            objects.append(encoded.write(folder))
    return Extras(objects=tuple(objects), left_out=tuple(left_out))


def _verified(
    extra: Extra, dataset: Dataset | None, analysed: AnalysedSeries, sources: Sources
) -> EncodedObject | None:
    """Return an extra, encoded and read back; None when it has nothing to show."""
    if dataset is None:
        return None
    encoded = encode(str(extra), dataset)
    verify(encoded, sources, analysed.volume)
    result = pydicom.dcmread(BytesIO(encoded.content))
    for keyword in ("PixelData", "EncapsulatedDocument", "GraphicAnnotationSequence"):
        if dataset.get(keyword) != result.get(keyword):
            raise ResultInvalid(f"the {keyword} of the {extra} does not read back as written")
    return encoded
