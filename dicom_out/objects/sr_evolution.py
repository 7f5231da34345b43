"""The change since the prior study, as the report states it.

The standard has no codes for a change of volume or of extent since a prior: they are private
(docs/private-codes.md). The prior report is named in Pertinent Other Evidence Sequence
(PS3.3 C.17.2.3), the place for evidence of other studies, and in words.
"""

from __future__ import annotations

import highdicom as hd

from chestct.evolution import Comparison, Evolution
from dicom_out.objects import codes
from dicom_out.objects.sr_numbers import number


def evolution_numbers(evolution: Evolution | None) -> list[hd.sr.Measurement]:
    """Return the changes; nothing where they would not mean anything."""
    if evolution is None or not evolution.is_comparable:
        return []
    return [
        number(codes.LESION_VOLUME_CHANGE, evolution.lesion_ml_change, codes.MILLILITRE),
        number(codes.INVOLVED_CHANGE, evolution.involved_change, codes.PERCENT),
        number(codes.INTERVAL, evolution.interval_days, codes.DAYS, digits=0),
    ]


def evolution_statement(evolution: Evolution | None) -> str:
    """Return the sentence on the prior; empty where there is none."""
    if evolution is None:
        return ""
    prior = evolution.prior
    named = (
        f"the Rales report on the study of {prior.context.acquired:%Y-%m-%d}, "
        f"{evolution.interval_days} days before (SOP Instance UID {prior.report.sop_instance_uid})"
    )
    if evolution.comparison is not Comparison.COMPARABLE:
        return (
            f"Not compared with {named}: it was {evolution.comparison}, and a difference might be "
            "theirs, not the patient's."
        )
    return (
        f"Compared with {named}, by the same models and settings: lesion volume "
        f"{prior.lesion_ml:.1f} to {evolution.lesion_ml:.1f} ml "
        f"({evolution.lesion_ml_change:+.1f}), {evolution.covers.words.removeprefix('the ')} "
        f"involved {prior.involved_percent:.1f} to {evolution.involved_percent:.1f} percent "
        f"({evolution.involved_change:+.1f} points), "
        f"{_severities(evolution)}.{_reconstruction(evolution)}"
    )


def _severities(evolution: Evolution) -> str:
    """Return the categories; of one lung alone there are none."""
    if evolution.prior.severity is None or evolution.severity is None:
        return "no severity, since one lung is not assessable in both studies"
    return f"severity {evolution.prior.severity} to {evolution.severity}"


def _reconstruction(evolution: Evolution) -> str:
    """Say what of a difference may come from the scanner (the present one is in the images)."""
    made = evolution.prior.context
    if made.slice_spacing_mm is None:
        return " How the prior images were reconstructed is not known."
    return (
        f" Prior images: slices {made.slice_spacing_mm:.1f} mm apart, "
        f"kernel {made.kernel or 'not stated'}."
    )
