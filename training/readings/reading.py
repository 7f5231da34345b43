"""The reading of one series by the models: its call and its numbers, or why it has none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from chestct.errors import SeriesRejected
from chestct.findings import Coverage, Findings
from chestct.findings_json import lung_to_dict
from chestct.method import Method
from chestct.series import Series
from chestct.volume import Volume
from inference.loading.loader import LoadingPolicy, load
from inference.ports import ModelSet
from inference.reading.analysis import Analysis, analyse

Progress = Callable[[str, float], None]
"""Receives the name of a stage and its finished part, 0 to 1."""

_DECIMALS = 4


class Call(StrEnum):
    """What a reading says of a series."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    NOT_ASSESSABLE = "not assessable"
    """No lesion in one lung; the other lung cannot be assessed."""
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a series has no findings; ``code`` is a reject reason or the name of an error."""

    call: Call
    code: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Obstacle:
        """Return the obstacle that an error stands for."""
        if isinstance(error, SeriesRejected):
            return cls(call=Call.REFUSED, code=str(error.reason), message=str(error))
        return cls(call=Call.FAILED, code=type(error).__name__, message=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the models say of one series.

    Attributes:
        volume: None if the series could not be loaded.
        analysis: None if the series was refused or its analysis failed.
        obstacle: Why there is no analysis; None if there is one.
        seconds: Wall-clock seconds by stage.
        peak_mb: Largest resident memory of the process while it read the series; None where the
            system does not say.
    """

    volume: Volume | None
    analysis: Analysis | None
    obstacle: Obstacle | None
    seconds: Mapping[str, float]
    peak_mb: float | None

    @property
    def call(self) -> Call:
        """What the reading says of the series."""
        if self.analysis is None:
            return self.obstacle.call if self.obstacle else Call.FAILED
        return call_of(self.analysis.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, rounded for a person; None for numbers that do not exist."""
        plain: dict[str, Any] = {
            "call": str(self.call),
            "slices": self.volume.geometry.shape[0] if self.volume else None,
            **self._numbers(),
            "notes": self._notes(),
            "refusal": (
                {"code": self.obstacle.code, "message": self.obstacle.message}
                if self.obstacle
                else None
            ),
            "seconds": {str(stage): value for stage, value in self.seconds.items()},
            "peak_mb": self.peak_mb,
        }
        rounded: dict[str, Any] = _rounded(plain)
        return rounded

    def _numbers(self) -> dict[str, Any]:
        if self.analysis is None:
            names = ("score", "operating_point", "lesion_ml", "involved_percent")
            return dict.fromkeys((*names, "left", "right", "lesions", "extent"))
        findings = self.analysis.findings
        return {
            "score": findings.presence.score,
            "operating_point": findings.presence.operating_point,
            "lesion_ml": findings.covered.lesion_ml,
            "involved_percent": findings.covered.involved_percent,
            "left": lung_to_dict(findings.left),
            "right": lung_to_dict(findings.right),
            "lesions": len(findings.lesions),
            "extent": str(findings.extent) if findings.extent else None,
        }

    def _notes(self) -> list[str]:
        notes = list(self.volume.notes) if self.volume else []
        return notes + list(self.analysis.findings.quality_flags if self.analysis else ())


def call_of(findings: Findings) -> Call:
    """Return what findings say of a series."""
    if findings.presence.positive:
        return Call.POSITIVE
    return Call.NEGATIVE if findings.covers is Coverage.BOTH else Call.NOT_ASSESSABLE


def read_series(series: Series, models: ModelSet, progress: Progress) -> Reading:
    """Load and analyse a series as the node does; no error of a series gets out."""
    _restart_peak()
    progress("load", 0.0)
    start = time.perf_counter()
    try:
        volume = load(series, LoadingPolicy())
    except Exception as error:  # noqa: BLE001 - the next series is to be read all the same
        seconds = {"load": time.perf_counter() - start}
        return _without_findings(None, error, seconds)
    return read_volume(volume, models, progress, {"load": time.perf_counter() - start})


def read_volume(
    volume: Volume, models: ModelSet, progress: Progress, before: Mapping[str, float] | None = None
) -> Reading:
    """Analyse a volume; ``before`` are the seconds of earlier stages."""
    start = time.perf_counter()
    seconds = dict(before or {})
    try:
        analysis = analyse(volume, models, models.method(Method()), progress)
    except Exception as error:  # noqa: BLE001 - likewise
        return _without_findings(volume, error, seconds | {"analysis": time.perf_counter() - start})
    return Reading(
        volume=volume,
        analysis=analysis,
        obstacle=None,
        seconds=seconds | {str(stage): value for stage, value in analysis.seconds.items()},
        peak_mb=_peak_mb(),
    )


def _without_findings(
    volume: Volume | None, error: Exception, seconds: Mapping[str, float]
) -> Reading:
    return Reading(
        volume=volume,
        analysis=None,
        obstacle=Obstacle.of(error),
        seconds=seconds,
        peak_mb=_peak_mb(),
    )


def _restart_peak() -> None:
    """Let the peak of resident memory begin anew (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
