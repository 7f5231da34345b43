"""The numbers of the report as content items (TID 1419), with unit, derivation and method."""

from __future__ import annotations

import highdicom as hd
from pydicom.sr.coding import Code

from chestct.findings import Diameter, Findings, Lesion, LungMeasurement, OpacityMeasurement
from dicom_out.objects import codes


def summary_numbers(findings: Findings) -> list[hd.sr.Measurement]:
    """Return the measurements of both lungs together, or of the assessable lung.

    Without a total, only the assessable lung has an involvement. An indeterminate result states
    no amount of opacity: nobody may read it as zero. OHIF 3.13 prints the first five numbers, so
    the sides come last: each lung also has a group of its own.
    """
    score = number(codes.PRESENCE_SCORE, findings.presence.score, codes.NO_UNITS, digits=4)
    involved, lesion_volume, volume, *_ = _all_lung_numbers(findings.covered)
    if not findings.states_opacity:
        return [score, volume]
    sides = ((codes.INVOLVED_LEFT, findings.left), (codes.INVOLVED_RIGHT, findings.right))
    return [
        *([involved] if findings.total is not None else []),
        lesion_volume,
        number(codes.COUNT, len(findings.lesions), codes.LESIONS),
        score,
        volume,
        *(
            number(name, lung.involved_percent, codes.PERCENT)
            for name, lung in sides
            if isinstance(lung, LungMeasurement)
        ),
    ]


def lung_numbers(lung: LungMeasurement, findings: Findings) -> list[hd.sr.Measurement]:
    """Return the measurements of a lung and its zones; its volume alone if in doubt."""
    numbers = _all_lung_numbers(lung)
    return numbers if findings.states_opacity else [numbers[2]]


def _all_lung_numbers(lung: LungMeasurement) -> list[hd.sr.Measurement]:
    return [
        number(codes.INVOLVED, lung.involved_percent, codes.PERCENT),
        _volume(codes.LESION_VOLUME, lung.lesion_ml),
        _volume(codes.LUNG_VOLUME, lung.volume_ml),
        *(
            number(codes.INVOLVED_ZONES[zone.zone], zone.involved_percent, codes.PERCENT)
            for zone in lung.zones
        ),
    ]


def rest_numbers(lung: LungMeasurement) -> list[hd.sr.Measurement]:
    """Return the measurements of a lung without its opacities."""
    return [_volume(codes.VOLUME, lung.volume_ml - lung.lesion_ml)]


def opacity_numbers(opacity: OpacityMeasurement) -> list[hd.sr.Measurement]:
    """Return the measurements of one kind of opacity in one lung."""
    return [_volume(codes.VOLUME, opacity.volume_ml), *_mean(opacity.mean_hu)]


def lesion_numbers(lesion: Lesion) -> list[hd.sr.Measurement]:
    """Return the measurements of one lesion."""
    return [
        _volume(codes.VOLUME, lesion.volume_ml),
        *_mean(lesion.mean_hu),
        number(codes.HIGH_OPACITY, lesion.high_opacity_percent, codes.PERCENT),
    ]


def all_lesions_numbers(total: LungMeasurement) -> list[hd.sr.Measurement]:
    """Return the measurements of all lesions together."""
    return [
        _volume(codes.LESION_VOLUME, total.lesion_ml),
        *_mean(total.lesion_mean_hu),
        number(codes.HIGH_OPACITY, total.high_opacity_percent, codes.PERCENT),
    ]


def diameters(diameter: Diameter) -> list[hd.sr.Measurement]:
    """Return the two axes of a lesion."""
    return [
        number(codes.LONG_AXIS, diameter.long_axis_mm, codes.MILLIMETRE),
        number(codes.SHORT_AXIS, diameter.short_axis_mm, codes.MILLIMETRE),
    ]


def number(name: Code, value: float, unit: Code, *, digits: int = 2) -> hd.sr.Measurement:
    """Return a number, rounded; a count stays an integer."""
    measurement = hd.sr.Measurement(name=name, value=round(value, digits), unit=unit)
    if isinstance(value, int):
        # pydicom would write 5.0 for the number 5.
        measurement[0].MeasuredValueSequence[0].NumericValue = str(value)
    return measurement


def _volume(name: Code, value: float) -> hd.sr.Measurement:
    return hd.sr.Measurement(
        name=name, value=round(value, 2), unit=codes.MILLILITRE, method=codes.VOXEL_SUM
    )


def _mean(hu: float | None) -> list[hd.sr.Measurement]:
    """Return a mean attenuation; empty without voxels."""
    if hu is None:
        return []
    return [
        hd.sr.Measurement(
            name=codes.ATTENUATION,
            value=round(hu, 2),
            unit=codes.HOUNSFIELD,
            derivation=codes.MEAN,
        )
    ]
