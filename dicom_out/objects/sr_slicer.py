"""The measurement groups for 3D Slicer: one group for each segment of one SEG (TID 1411).

Its extension QuantitativeReporting shows a table from the groups:

- If any group is planar (TID 1410), the extension ignores the others, and needs minutes for a
  polyline of hundreds of points.
- It gives the tracking UID of group n to segment n, and fails if groups outnumber segments.
- It names the columns after the measurements of the first group, and fills them by position. So
  each group has the same measurements in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.volume import slice_names
from dicom_out.objects.sr_groups import Group, Volumetric

_REFERENCED_SEGMENT = "121191"


def one_for_each_segment(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that reference a segment, with the measurements that all of them have."""
    kept: list[Group] = [
        group
        for group in groups
        if isinstance(group, Volumetric)
        and _REFERENCED_SEGMENT in {_name(item) for item in group[0].ContentSequence}
    ]
    measured = [{_measurement(item): item for item in _numbers(group)} for group in kept]
    common = [key for key in measured[0] if all(key in numbers for numbers in measured)]
    for group, numbers in zip(kept, measured, strict=True):
        others = [item for item in group[0].ContentSequence if item.ValueType != "NUM"]
        aligned = [*others, *(numbers[key] for key in common)]
        group[0].ContentSequence = hd.sr.ContentSequence(aligned)
    return kept


def lesions_in_words(analysed: AnalysedSeries) -> list[str]:
    """Return a sentence for each of the largest lesions, which have no group of their own."""
    names = slice_names(analysed.volume.sources)
    return [
        (
            f"Lesion {lesion.number}: {lesion.side} lung, {names[lesion.diameter.slice_index]}, "
            f"{lesion.volume_ml:.2f} ml, mean {lesion.mean_hu:.0f} HU, axes "
            f"{lesion.diameter.long_axis_mm:.1f} x {lesion.diameter.short_axis_mm:.1f} mm."
        )
        for lesion in analysed.measured
    ]


def _numbers(group: Group) -> list[Dataset]:
    return [item for item in group[0].ContentSequence if item.ValueType == "NUM"]


def _measurement(item: Dataset) -> tuple[str, str]:
    """Return the codes of the concept and the unit."""
    (value,) = item.MeasuredValueSequence
    return _name(item), str(value.MeasurementUnitsCodeSequence[0].CodeValue)


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)
