"""The comments of the report: claim, notice, definitions, method and remarks."""

from __future__ import annotations

from collections.abc import Sequence

from chestct.findings import Coverage, Findings
from chestct.results import ModelIdentity, SoftwareIdentity
from chestct.verdict import scope, sentence, sides_involved, verdict, volumes
from dicom_out.objects.identity import ascii_text

_NOTICE = (
    "Made by artificial intelligence, for research use only, not verified by a physician. "
    "Not a medical device: not cleared, not CE-marked. Opacities are marked whatever "
    "their cause; no cause is suggested."
)


def statements(
    findings: Findings,
    measured: int,
    models: Sequence[ModelIdentity],
    software: SoftwareIdentity,
) -> list[str]:
    """Return the comments of the report, the claim first, in ASCII for any character set.

    ``measured`` is the number of lesions with groups of their own.
    """
    texts = [
        _claim(findings),
        _NOTICE,
        _method(findings),
        *_selection(findings, measured),
        _origin(models, software),
        *(f"Note: {flag}." for flag in findings.quality_flags),
    ]
    return [ascii_text(text) for text in texts]


def _claim(findings: Findings) -> str:
    """Return the outcome, its scope and its main numbers."""
    parts = [f"{sentence(verdict(findings))}.", scope(findings)]
    if findings.lesions:
        covered = findings.covered
        if findings.covers is Coverage.BOTH:
            parts.append(f"Percent involved: {sides_involved(findings)}.")
        parts.append(
            f"Opacity {covered.lesion_ml:.1f} ml, {covered.high_opacity_percent:.0f} percent of "
            "it high opacity (consolidation)."
        )
    return " ".join([*parts, f"{volumes(findings)}."])


def _method(findings: Findings) -> str:
    method, presence = findings.method, findings.presence
    aerated = (
        ""
        if method.minimum_lesion_hu is None
        else f"; lung below {method.minimum_lesion_hu:g} HU is no opacity"
    )
    return (
        "Opacity is ground-glass or consolidation. A lesion is one connected component of opacity. "
        "Method: lung volumes include opacities; percent involved is opacity volume over lung "
        f"volume; high opacity (consolidation) is opacity at or above {method.high_opacity_hu:g} "
        f"HU, smoothed over {method.density_smoothing_mm:g} mm, without pieces below "
        f"{method.minimum_piece_ml:g} ml; lesions "
        f"below {method.minimum_lesion_ml:g} ml are dropped{aerated}. "
        f"Presence score {presence.score:.3f}, operating point {presence.operating_point:.3f}."
    )


def _selection(findings: Findings, measured: int) -> list[str]:
    """State which lesions have groups of their own, and that the totals include all lesions."""
    if not measured:
        return []
    every = measured == len(findings.lesions)
    which = f"Each of the {measured}" if every else f"The {measured} largest"
    whole = "" if every else f" of {len(findings.lesions)}"
    return [
        (
            f"{which}{whole} lesions: outlined on the slice of the longest axis; long axis between "
            "pixel centres in the axial plane, short axis perpendicular to it. Volumes, "
            "percentages and the count are of all lesions."
        )
    ]


def _origin(models: Sequence[ModelIdentity], software: SoftwareIdentity) -> str:
    named = "; ".join(
        f"{model.name} {model.version} (SHA-256 {model.digest[:12]}, {model.licence})"
        for model in models
    )
    return f"Software: {software.title}. Models: {named}."
