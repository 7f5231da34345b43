"""The outcome in words, the same everywhere; it never extends one lung to both."""

from __future__ import annotations

from chestct.findings import Coverage, Findings, LungMeasurement


def verdict(findings: Findings) -> str:
    """Return the outcome, and the lung that is not assessable."""
    if findings.lesions:
        outcome = f"{findings.covered.involved_percent:.1f} % of {findings.covers.words} involved"
    elif findings.covers is Coverage.BOTH:
        outcome = "no lesion found"
    else:
        outcome = "none marked in the assessed lung"
    return "; ".join(part for part in (outcome, unassessed(findings.covers)) if part)


def sentence(words: str) -> str:
    """Return ``words`` with a capital first letter."""
    return words[:1].upper() + words[1:]


def unassessed(covers: Coverage) -> str:
    """Return the lung that is not assessable; empty when both are assessable."""
    if covers is Coverage.BOTH:
        return ""
    return f"{'right' if covers is Coverage.LEFT else 'left'} lung not assessable"


def sides_involved(findings: Findings, unit: str = "") -> str:
    """Return the involvement of each lung, or the lung that is not assessable."""
    if isinstance(left := findings.left, LungMeasurement) and isinstance(
        right := findings.right, LungMeasurement
    ):
        return f"left {left.involved_percent:.1f}{unit}, right {right.involved_percent:.1f}{unit}"
    return unassessed(findings.covers)


def volumes(findings: Findings) -> str:
    """Return the volumes of the lungs, or of the assessable lung."""
    whole = findings.covered.volume_ml
    if isinstance(left := findings.left, LungMeasurement) and isinstance(
        right := findings.right, LungMeasurement
    ):
        return f"Lungs {whole:.0f} ml (left {left.volume_ml:.0f}, right {right.volume_ml:.0f})"
    return f"{sentence(findings.covers)} lung {whole:.0f} ml"
