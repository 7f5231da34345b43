"""The outcome of a result in words, the same in every output; one lung never speaks for both."""

from __future__ import annotations

from chestct.findings import Coverage, Findings, LungMeasurement, Outcome

_NONE_MARKED = f"{Outcome.NONE_MARKED}: ground-glass, consolidation"
_NOT_ASSESSED = "Nodules and masses are not assessed."
_LEAST_PERCENT = 0.05
"""A smaller share would be printed as 0.0."""


def verdict(findings: Findings) -> str:
    """Return the outcome with its main number or its reasons, for a headline."""
    if findings.outcome is Outcome.NONE_MARKED:
        return _NONE_MARKED
    if findings.outcome is Outcome.INDETERMINATE:
        return f"{Outcome.INDETERMINATE}: {'; '.join(findings.indeterminate_reasons)}"
    share = f"{percent(findings.covered.involved_percent)} % of {findings.covers.words}"
    missing = unassessed(findings.covers)
    return f"{Outcome.FOUND}: {share}" + (f"; {missing}" if missing else "")


def scope(findings: Findings) -> str:
    """Return the claim in whole sentences, with what is not assessed."""
    if findings.outcome is Outcome.FOUND:
        claim = "Ground-glass opacity or consolidation marked, whatever its cause."
    elif findings.outcome is Outcome.NONE_MARKED:
        claim = "No ground-glass opacity or consolidation marked."
    else:
        claim = (
            "No ground-glass opacity or consolidation marked, but this is not a negative result "
            f"({'; '.join(findings.indeterminate_reasons)})."
        )
    return f"{claim} {_NOT_ASSESSED}"


def short(findings: Findings) -> str:
    """Return the outcome for lists that cut long lines: at most 48 characters."""
    if findings.outcome is Outcome.NONE_MARKED:
        words = _NONE_MARKED
    elif findings.outcome is Outcome.INDETERMINATE:
        words = f"{Outcome.INDETERMINATE}: {findings.indeterminate_reasons[0]}"
    else:
        words = f"{Outcome.FOUND}: {percent(findings.covered.involved_percent)} %"
        if findings.covers is not Coverage.BOTH:
            words += f" of {findings.covers.words}"
    return sentence(words)


def sentence(words: str) -> str:
    """Return ``words`` with a capital first letter."""
    return words[:1].upper() + words[1:]


def percent(share: float) -> str:
    """Return a share in percent; a small share never reads as zero."""
    return "under 0.1" if 0 < share < _LEAST_PERCENT else f"{share:.1f}"


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
        return (
            f"left {percent(left.involved_percent)}{unit}, "
            f"right {percent(right.involved_percent)}{unit}"
        )
    return unassessed(findings.covers)


def volumes(findings: Findings) -> str:
    """Return the volumes of the lungs, or of the assessable lung."""
    whole = findings.covered.volume_ml
    if isinstance(left := findings.left, LungMeasurement) and isinstance(
        right := findings.right, LungMeasurement
    ):
        return f"Lungs {whole:.0f} ml (left {left.volume_ml:.0f}, right {right.volume_ml:.0f})"
    return f"{sentence(findings.covers)} lung {whole:.0f} ml"
