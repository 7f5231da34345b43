"""The outcome in words, the same wherever it is told: one lung never speaks for both."""

from __future__ import annotations

from chestct.findings import Coverage, Findings, LungMeasurement


def verdict(findings: Findings) -> str:
    """Return what was found, and in which lungs."""
    if findings.lesions:
        found = f"{findings.covered.involved_percent:.1f} % of {findings.covers.words} involved"
    elif findings.covers is Coverage.BOTH:
        found = "no lesion found"
    else:
        found = "none marked in the assessed lung"
    return "; ".join(part for part in (found, unassessed(findings.covers)) if part)


def sentence(words: str) -> str:
    """Return words as a sentence begins."""
    return words[:1].upper() + words[1:]


def unassessed(covers: Coverage) -> str:
    """Say which lung is not assessable; empty: none is."""
    if covers is Coverage.BOTH:
        return ""
    return f"{'right' if covers is Coverage.LEFT else 'left'} lung not assessable"


def sides_involved(findings: Findings, unit: str = "") -> str:
    """Return the percent of each lung, or which has none."""
    if isinstance(left := findings.left, LungMeasurement) and isinstance(
        right := findings.right, LungMeasurement
    ):
        return f"left {left.involved_percent:.1f}{unit}, right {right.involved_percent:.1f}{unit}"
    return unassessed(findings.covers)


def volumes(findings: Findings) -> str:
    """Return the volumes of the lungs, or of the assessed one."""
    whole = findings.covered.volume_ml
    if isinstance(left := findings.left, LungMeasurement) and isinstance(
        right := findings.right, LungMeasurement
    ):
        return f"Lungs {whole:.0f} ml (left {left.volume_ml:.0f}, right {right.volume_ml:.0f})"
    return f"{sentence(findings.covers)} lung {whole:.0f} ml"
