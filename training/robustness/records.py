"""The records of the robustness table, and their JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from training.readings.reading import Call


class Verdict(StrEnum):
    """Whether a reading stayed the same under a perturbation."""

    PASSED = "passed"
    CHANGED = "changed"
    REFUSED = "refused"
    NOT_APPLICABLE = "-"
    """The chest already is what the perturbation would make of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNumbers:
    """The numbers of a reading that the table compares; volumes are of both lungs."""

    call: Call
    score: float
    lesion_ml: float
    lung_ml: float
    involved_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecord:
    """One perturbation of one chest.

    Attributes:
        reason: Why the row did not pass; empty if it passed.
        numbers: None without a reading.
        lesion_ratio, lung_ratio: Volume over that of the unperturbed chest, as far as the
            perturbed chest shows it; None where a volume is missing or zero.
    """

    perturbation: str
    verdict: Verdict
    reason: str = ""
    numbers: ReadNumbers | None = None
    lesion_ratio: float | None = None
    lung_ratio: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestRecord:
    """All rows of one chest.

    ``reference`` is the unperturbed reading; None if it was refused, for the ``refusal``.
    """

    name: str
    series_uid: str
    reference: ReadNumbers | None
    refusal: str
    rows: tuple[RowRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessRecord:
    """The whole table; ``models`` are the digests of the networks that read it."""

    models: tuple[str, ...]
    chests: tuple[ChestRecord, ...]


def passed(rows: Iterable[RowRecord]) -> tuple[int, int]:
    """Return how many rows passed, of how many that apply."""
    verdicts = [row.verdict for row in rows if row.verdict is not Verdict.NOT_APPLICABLE]
    return verdicts.count(Verdict.PASSED), len(verdicts)


def write_record(path: Path, record: RobustnessRecord) -> None:
    """Write the record; a crash leaves the old file or the new file."""
    text = json.dumps(asdict(record), indent=1, allow_nan=False)
    fresh = path.with_name(f".{path.name}.partial")
    fresh.write_text(text + "\n", encoding="utf-8")
    fresh.replace(path)


def read_record(path: Path) -> RobustnessRecord:
    """Return the record that :func:`write_record` wrote.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return RobustnessRecord(
            models=tuple(plain["models"]), chests=tuple(_chest(chest) for chest in plain["chests"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no robustness table: {error!r}") from error


def _chest(plain: Mapping[str, Any]) -> ChestRecord:
    rows = tuple(
        RowRecord(
            **{
                **row,
                "verdict": Verdict(row["verdict"]),
                "numbers": _numbers(row["numbers"]),
            }
        )
        for row in plain["rows"]
    )
    return ChestRecord(**{**plain, "reference": _numbers(plain["reference"]), "rows": rows})


def _numbers(plain: Mapping[str, Any] | None) -> ReadNumbers | None:
    return ReadNumbers(**{**plain, "call": Call(plain["call"])}) if plain else None
