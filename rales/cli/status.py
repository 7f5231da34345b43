"""``rales status``: what happened to each series."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from os import fsencode
from pathlib import Path
from typing import Any

import click

from chestct.states import JobState
from rales.cli.options import config_option, json_option

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""No record of a node is older."""
_DEFAULT_LIMIT = 50
_LARGEST_LIMIT = 1_000_000_000


class _Since(click.ParamType[datetime]):
    """A time, or how long ago: 2026-01-31, 2026-01-31T08:00, 90m, 12h, 7d."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return an aware datetime; a time without a UTC offset is local time."""
        if isinstance(value, datetime):
            return value
        ago = re.fullmatch(r"(\d{1,6})([mhd])", value)
        if ago:
            now = datetime.now(UTC)
            return now - min(int(ago[1]) * _UNITS[ago[2]], now - _EARLIEST)
        try:
            return max(datetime.fromisoformat(value).astimezone(UTC), _EARLIEST)
        except (ValueError, OverflowError):
            return self.fail(
                f"{value!r} is neither a time (2026-01-31, 2026-01-31T08:00) nor a duration "
                "(90m, 12h, 7d)",
                param,
                ctx,
            )


@click.command()
@config_option
@json_option
@click.option("--series", help="Only the series whose UID starts or ends with this text.")
@click.option("--accession", help="Only the series with this Accession Number.")
@click.option(
    "--state",
    "states",
    type=click.Choice([str(state) for state in JobState]),
    multiple=True,
    help="Only series in this state. Repeat the option for several states.",
)
@click.option(
    "--since",
    type=_Since(),
    help="Only series whose state changed since this time (2026-01-31, 2026-01-31T08:00) or "
    "within this duration (90m, 12h, 7d).",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0, max=_LARGEST_LIMIT),
    default=_DEFAULT_LIMIT,
    show_default=True,
    help="Show the latest series, at most this many. 0 shows all.",
)
def status(
    *,
    config_path: Path,
    as_json: bool,
    series: str | None,
    accession: str | None,
    states: tuple[str, ...],
    since: datetime | None,
    limit: int,
) -> None:
    """Show the latest series: state, reason, results and deliveries.

    Also shows the refused images and associations. --json adds every change of state.

    \b
    Examples:
      rales status --state failed --since 7d     what failed this week, and why
      rales status --accession A123 --json       everything about the series of one order
    """  # noqa: D301 - click wants the backspace character itself
    from chestct.text import printable
    from rales.cli.opening import layout_of, open_state
    from rales.cli.status_json import print_json
    from rales.cli.status_report import read_report
    from rales.cli.status_tables import print_tables
    from rales.state.store.queries import JobFilter

    layout = layout_of(config_path)
    job_filter = JobFilter(
        states=tuple(map(JobState, states)),
        since=since,
        series=printable(series) if series is not None else None,
        accession_key=_accession_key(accession),
        limit=limit or None,
    )
    report = read_report(open_state(layout), layout, job_filter)
    nothing = "No such series." if series or accession or states or since else "No series yet."
    if as_json:
        print_json(report)
    else:
        print_tables(report, nothing=nothing)


def _accession_key(accession: str | None) -> str | None:
    """Return the digest by which the state file knows an Accession Number."""
    from chestct.series import accession_key

    return None if accession is None else accession_key(fsencode(accession.strip()))
