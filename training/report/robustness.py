"""The part of the report on robustness: one line per perturbation, one column per chest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from training.report.markup import NOTHING, blocks, number, table
from training.robustness.judge import CLEAN_PERCENT
from training.robustness.records import (
    ChestRecord,
    RobustnessRecord,
    RowRecord,
    Verdict,
    passed,
)


def robustness_section(record: RobustnessRecord | None) -> str:
    """Return the section on robustness; empty without a record."""
    if record is None:
        return ""
    chests = record.chests
    rows = [row for chest in chests for row in chest.rows]
    done, of = passed(rows)
    refused = sum(row.verdict is Verdict.REFUSED for row in rows)
    return blocks(
        "## Robustness",
        f"**{done} of {of} rows passed**, {refused} were refused. Each real chest is read again "
        "after a change that a scanner, a reconstruction or a header could make. A row passes if "
        "the call is the same, the lung volume is within 5 %, and the lesion volume within 15 % "
        "(25 % for another kernel, 0.1 % for the same patient stored in another way); a chest "
        f"without lesions stays below {CLEAN_PERCENT:g} % involved. A smaller field of view is "
        "compared with the part that it shows. The cells of rows that passed are the lesion "
        "volume over that of the unperturbed chest, or the involvement of a negative chest.",
        table(["perturbation", *(chest.name for chest in chests), "passed"], _lines(chests)),
        "\n".join(_remarks(chests)),
    )


def _lines(chests: Sequence[ChestRecord]) -> Iterator[list[str]]:
    """Yield a line per perturbation, in the order in which the chests have them, and the sums."""
    yield [
        "unperturbed",
        *(chest.reference.call if chest.reference else "refused" for chest in chests),
        NOTHING,
    ]
    for name in dict.fromkeys(row.perturbation for chest in chests for row in chest.rows):
        rows = [_row(chest, name) for chest in chests]
        yield [name, *map(_cell, rows), _count(row for row in rows if row)]
    everything = [row for chest in chests for row in chest.rows]
    yield ["**passed**", *(_count(chest.rows) for chest in chests), _count(everything)]


def _row(chest: ChestRecord, name: str) -> RowRecord | None:
    return next((row for row in chest.rows if row.perturbation == name), None)


def _cell(row: RowRecord | None) -> str:
    if row is None or row.verdict is Verdict.NOT_APPLICABLE:
        return NOTHING
    if row.verdict is not Verdict.PASSED or row.numbers is None:
        return f"**{row.verdict}**" if row.verdict is Verdict.CHANGED else str(row.verdict)
    if row.numbers.lesion_ml and row.lesion_ratio is not None:
        return number(row.lesion_ratio)
    return f"{row.numbers.involved_percent:.1f} %"


def _count(rows: Iterable[RowRecord]) -> str:
    done, of = passed(rows)
    return f"{done} of {of}"


def _remarks(chests: Sequence[ChestRecord]) -> Iterator[str]:
    """Yield why a chest was not read, and why a row did not pass."""
    for chest in chests:
        if chest.reference is None:
            yield f"- {chest.name}: not read: {chest.refusal}"
        for row in chest.rows:
            if row.reason:
                yield f"- {chest.name}, {row.perturbation}: {row.reason}"
