"""Opacity that crosses from lung to lung is a lesion in each, with a segment and an outline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from chest_cases import healthy_lungs, make_case
from numpy.typing import NDArray

from chestct.findings import Side
from chestct.results import ReportOptions
from chestct.volume import LABELS_OF, Label, is_lesion
from dicom_out.objects.segments import lesion_segments


def touching() -> NDArray[np.uint8]:
    """Return lungs that touch each other, with one band of opacity over both."""
    labels = healthy_lungs()
    middle = labels.shape[2] // 2
    labels[3:5, 6:14, 2:middle] = Label.RIGHT_LUNG
    labels[3:5, 6:14, middle:-2] = Label.LEFT_LUNG
    labels[3, 8:11, 4:middle] = Label.RIGHT_GROUND_GLASS
    labels[3, 8:11, middle : middle + 3] = Label.LEFT_GROUND_GLASS
    return labels


def test_each_lung_has_its_own_lesion(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=touching())
    first, second = case.findings.lesions
    assert (first.side, second.side) == (Side.RIGHT, Side.LEFT)
    segments = lesion_segments(case.lesion_map, case.findings.lesions)
    labels = case.lesion_map.labels
    for lesion in (first, second):
        own = is_lesion(labels) & np.isin(labels, LABELS_OF[lesion.side])
        assert np.array_equal(segments.numbers == lesion.number, own)


def test_an_outline_stays_in_its_lung(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=touching())
    options = ReportOptions(measured_lesions=2)
    sr = pydicom.dcmread(case.compose(tmp_path / "out", options=options).objects[1].path)
    middle = case.lesion_map.labels.shape[2] // 2
    spans = {uid: _columns(sr, uid) for uid in (case.key.uid("lesion-1"), case.key.uid("lesion-2"))}
    (_, last), (start, _) = spans.values()
    assert last <= middle <= start


def _columns(sr: pydicom.Dataset, tracking_uid: str) -> tuple[float, float]:
    """Return the first and the last column of the outline that is tracked under a UID."""
    groups = (
        item.ContentSequence
        for container in sr.ContentSequence
        for item in container.get("ContentSequence", ())
        if "ContentSequence" in item
    )
    for group in groups:
        if any(part.get("UID") == tracking_uid for part in group):
            points = [
                np.array(part.GraphicData, float).reshape(-1, 2)
                for part in group
                if part.ValueType == "SCOORD"
            ]
            if points:
                columns = np.concatenate(points)[:, 0]
                return float(columns.min()), float(columns.max())
    raise AssertionError(f"no outline is tracked as {tracking_uid}")
