"""The change since the prior study, as numbers and as a sentence of the report.

The standard has no codes for a change of volume or involvement since a prior study, so the codes
are private (docs/private-codes.md). The report references the prior report in Pertinent Other
Evidence Sequence (PS3.3 C.17.2.3) and names it in the sentence.
"""

from __future__ import annotations

import highdicom as hd

from chestct.evolution import Comparison, Evolution
from chestct.results import Profile
from dicom_out.objects import codes
from dicom_out.objects.sr_numbers import number


def evolution_numbers(evolution: Evolution | None) -> list[hd.sr.Measurement]:
    """Return the changes; empty when the studies are not comparable."""
    if evolution is None or not evolution.is_comparable:
        return []
    return [
        number(codes.LESION_VOLUME_CHANGE, evolution.lesion_ml_change, codes.MILLILITRE),
        number(codes.INVOLVED_CHANGE, evolution.involved_change, codes.PERCENT),
        number(codes.INTERVAL, evolution.interval_days, codes.DAYS, digits=0),
    ]


def evolution_statement(evolution: Evolution | None, profile: Profile) -> str:
    """Return the sentence on the prior study, for an SR of ``profile``; empty without a prior."""
    if evolution is None:
        return ""
    prior = evolution.prior
    uid = prior.report_for(profile).sop_instance_uid
    prior_report = (
        f"the Rales report on the study of {prior.context.acquired:%Y-%m-%d}, "
        f"{evolution.interval_days} days before (SOP Instance UID {uid})"
    )
    if evolution.comparison is not Comparison.COMPARABLE:
        return (
            f"Not compared with {prior_report}: it was {evolution.comparison}, and a difference "
            "might be theirs, not the patient's."
        )
    return (
        f"Compared with {prior_report}, by the same models and settings: lesion volume "
        f"{prior.lesion_ml:.1f} to {evolution.lesion_ml:.1f} ml "
        f"({evolution.lesion_ml_change:+.1f}), {evolution.covers.words.removeprefix('the ')} "
        f"involved {prior.involved_percent:.1f} to {evolution.involved_percent:.1f} percent "
        f"({evolution.involved_change:+.1f} points).{_reconstruction(evolution)}"
    )


def _reconstruction(evolution: Evolution) -> str:
    """Return the reconstruction of the prior images, which may explain a difference."""
    context = evolution.prior.context
    if context.slice_spacing_mm is None:
        return " How the prior images were reconstructed is not known."
    return (
        f" Prior images: slices {context.slice_spacing_mm:.1f} mm apart, "
        f"kernel {context.kernel or 'not stated'}."
    )
