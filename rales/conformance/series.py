"""Made-up series that differ in everything that a source decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from chestct.findings import Side
from chestct.volume import Label
from dicom_out.objects.sources import TAKEN_OVER
from phantom import PhantomIdentity, Thorax, make_thorax, small_spec, write_series


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What sets one series apart from the others.

    Attributes:
        edit: Changes the header of a source image.
        number: Stands in every made-up value.
        missing: The lung that is not assessable.
    """

    number: int
    character_set: str
    pixel_mm: float
    slice_mm: float
    rows: int
    edit: Callable[[Dataset, int], None]
    has_lesions: bool = True
    has_history: bool = False
    missing: Side | None = None

    def thorax(self) -> Thorax:
        """Make its phantom."""
        spec = small_spec(
            shape=(30 + self.number, self.rows, self.rows + 2 * self.number),
            pixel_spacing_mm=self.pixel_mm,
            slice_spacing_mm=self.slice_mm,
            first_slice_mm=-120.0,
            seed=self.number,
        )
        return make_thorax(spec if self.has_lesions else replace(spec, lesions=()))

    def write(self, thorax: Thorax, folder: Path) -> list[Path]:
        """Write its series; return the files."""
        identity = PhantomIdentity(
            patient_id=f"P{self.number}",
            specific_character_set=self.character_set,
            study_date=f"2026010{self.number}",
        )
        files = write_series(thorax, folder, identity)
        for path in files:
            header = pydicom.dcmread(path)
            header.RescaleSlope = f"1.00{self.number}"
            header.RescaleIntercept = f"{-1024 + self.number}"
            self.edit(header, self.number)
            header.save_as(path)
        return files


def _fill(header: Dataset, number: int) -> None:
    """Give a header every element that results take over, and an awkward orientation."""
    values = {
        "AS": f"04{number}Y",
        "CS": "FMO"[number % 3],
        "DA": f"200{number}0304",
        "DS": f"{60 + number}",
        "LO": f"Text {number}",
        "LT": f"Comment {number}",
        "PN": f"Name^{number}",
        "SH": f"ID {number}",
        "TM": f"10110{number}",
    }
    for keyword in TAKEN_OVER:
        if keyword not in ("SpecificCharacterSet", "StudyInstanceUID"):
            setattr(header, keyword, values[dictionary_VR(keyword)])
    header.TimezoneOffsetFromUTC = f"+0{number}00"
    header.PositionReferenceIndicator = f"Mark {number}"
    header.LossyImageCompression = f"0{number % 2}"
    if number % 2:
        header.LossyImageCompressionRatio = "12.5"
        header.LossyImageCompressionMethod = "ISO_15444_1"
        header.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]


def _strip(header: Dataset, _number: int) -> None:
    """Take from a header what a source may lack."""
    for keyword in TAKEN_OVER:
        if keyword not in ("SpecificCharacterSet", "StudyInstanceUID") and keyword in header:
            del header[keyword]
    del header.RescaleType


PLANS = (
    Plan(number=1, character_set="ISO_IR 100", pixel_mm=5.1, slice_mm=4.0, rows=72, edit=_fill),
    Plan(
        number=2,
        character_set="ISO_IR 192",
        pixel_mm=5.3,
        slice_mm=4.4,
        rows=76,
        edit=_fill,
        has_lesions=False,
    ),
    Plan(
        number=3,
        character_set="ISO_IR 101",
        pixel_mm=5.5,
        slice_mm=4.7,
        rows=80,
        edit=_strip,
        has_history=True,
    ),
    Plan(
        number=6,
        character_set="ISO_IR 100",
        pixel_mm=5.2,
        slice_mm=3.7,
        rows=74,
        edit=_fill,
        has_lesions=False,
        missing=Side.LEFT,
    ),
)


def labels_of(thorax: Thorax, missing: Side | None) -> NDArray[np.uint8]:
    """Return the label map that is the truth of a phantom, but for a lung that is ``missing``."""
    labels = np.zeros(thorax.hu.shape, np.uint8)
    for lung, whole, ill in (
        (thorax.left_lung, Label.LEFT_LUNG, Label.LEFT_LESION),
        (thorax.right_lung, Label.RIGHT_LUNG, Label.RIGHT_LESION),
    ):
        labels[lung] = whole
        labels[lung & (thorax.lesion > 0)] = ill
    if missing is not None:
        labels[thorax.left_lung if missing is Side.LEFT else thorax.right_lung] = Label.BACKGROUND
    return labels
