"""The plots of the report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.report.painted_summary import by_kind, found_at
from training.report.records import (
    UNTOUCHED,
    CaseRecord,
    PaintedRecord,
    PatientRecord,
    SliceRecord,
    Source,
)
from training.report.statistics import Agreement, Bin

# Of Okabe and Ito's palette; marks differ too, for those who see no colours.
_MARKS = {
    Source.PHANTOM: ("o", "#0072B2"),
    Source.PLAIN: ("D", "#CC79A7"),
    Source.HELD_OUT: ("s", "#E69F00"),
    Source.SEEN: ("^", "#009E73"),
}
_SIZE = (7.2, 4.0)
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_DASHES = ("--", ":", (0, (5, 1, 1, 1)), (0, (1, 3)))
_LEAST_ML, _MOST_ML = 0.1, 100.0


def bland_altman_patients(
    path: Path,
    patients: Sequence[PatientRecord],
    slices: Sequence[SliceRecord],
    limits: Agreement | None,
) -> None:
    """Plot the involvement of patients, over their slices; limits are those of patients."""
    figure, axes = _figure("involvement: 8-bit slices with expert masks")
    found = np.array([_percent(one.lesion_area, one.lung_area) for one in slices])
    true = np.array([_percent(one.true_lesion_area, one.true_lung_area) for one in slices])
    axes.scatter((found + true) / 2, found - true, s=6, color="0.75", label="one slice")
    for one in patients:
        middle = (one.involved_percent + one.true_involved_percent) / 2
        gap = one.involved_percent - one.true_involved_percent
        axes.scatter(middle, gap, s=46, color="#0072B2", zorder=3)
        axes.annotate(
            f"patient {one.patient}",
            (middle, gap),
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )
    _limits(axes, limits)
    _save(figure, path)


def bland_altman_cases(path: Path, cases: Sequence[CaseRecord], limits: Agreement | None) -> None:
    """Plot the involvement of scans with lesions; limits are those of ``limits``."""
    figure, axes = _figure("involvement: live path, scans with exact truth and lesions")
    for source, (mark, colour) in _MARKS.items():
        own = [one for one in cases if one.source is source and one.has_lesions]
        if own:
            found = np.array([one.involved_percent for one in own])
            true = np.array([one.true_involved_percent for one in own])
            middle, gap = (found + true) / 2, found - true
            axes.scatter(middle, gap, s=30, marker=mark, color=colour, label=str(source))
    _limits(axes, limits)
    _save(figure, path)


def _percent(lesion: int, lung: int) -> float:
    return 100.0 * lesion / lung if lung else 0.0


def _limits(axes: Any, limits: Agreement | None) -> None:
    axes.axhline(0, color="0.4", linewidth=0.8)
    if limits is not None:
        axes.axhline(limits.bias, color="black", linewidth=1.2, label=f"bias {limits.bias:+.2f}")
        label = f"limits of agreement {limits.low:+.2f}, {limits.high:+.2f}"
        axes.axhline(limits.low, color="black", linewidth=1.0, linestyle="--", label=label)
        axes.axhline(limits.high, color="black", linewidth=1.0, linestyle="--")
    axes.set_xlabel("mean of found and true involvement, % of the lungs")
    axes.set_ylabel("found less true, points")
    axes.legend(fontsize=8, frameon=False, loc="best")


def reliability_curve(path: Path, bins: Sequence[Bin], operating_point: float) -> None:
    """Plot how often scans of a presence score have lesions, and how many scans there are."""
    figure, axes = _figure("presence score: predicted and observed")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="as predicted")
    predicted, observed = [one.predicted for one in bins], [one.observed for one in bins]
    axes.plot(predicted, observed, marker="o", color="#0072B2", label="scans, by bin of the score")
    for one in bins:
        below = one.observed > 0.9
        axes.annotate(
            f"n = {one.count}",
            (one.predicted, one.observed),
            xytext=(0, -14 if below else 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    label = f"operating point {operating_point:.3f}"
    axes.axvline(operating_point, color="#D55E00", linewidth=1.2, linestyle="--", label=label)
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.08, 1.1)
    axes.set_xlabel("presence score")
    axes.set_ylabel("part that has lesions")
    axes.legend(fontsize=8, frameon=False, loc="center left")
    _save(figure, path)


def operating_curves(path: Path, scans: Sequence[PaintedRecord]) -> None:
    """Plot the part of scans that is found by the volume of the presence rule, by kind."""
    figure, axes = _figure("presence: found, and false alarms, by the volume of the rule")
    volumes = np.geomspace(_LEAST_ML, _MOST_ML, 200)

    def plot(own: Sequence[PaintedRecord], label: str, **style: Any) -> None:
        found = [found_at(own, volume).mean for volume in volumes]
        axes.plot(volumes, found, label=f"{label} (n = {len(own)})", **style)

    for (kind, own), colour in zip(by_kind(scans).items(), cycle(_COLOURS), strict=False):
        plot(own, kind, color=colour, linewidth=1.4)
    untouched = [scan for scan in scans if scan.kind == UNTOUCHED]
    chests = dict.fromkeys(scan.chest for scan in untouched)
    for chest, dash in zip(chests, cycle(_DASHES), strict=False):
        own = [scan for scan in untouched if scan.chest == chest]
        plot(own, f"false alarms, {chest}", color="black", linewidth=1.4, linestyle=dash)
    label = f"shipped rule, {scans[0].rule_ml:g} ml"
    axes.axvline(scans[0].rule_ml, color="0.5", linewidth=1.2, linestyle="-.", label=label)
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("volume that must be marked with certainty, ml")
    axes.set_ylabel("part of the scans")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def _figure(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with mpl.rc_context({"savefig.dpi": 110}):
        figure.savefig(path, metadata={"Software": None})
