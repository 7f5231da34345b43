"""``rales status`` and ``rales retry``: what happened to each series, and again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from os import fsencode
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chestct.errors import ConfigError
from chestct.series import accession_key
from chestct.states import DeliveryState, JobState
from chestct.text import printable
from rales.cli import refusals
from rales.cli.environment import free_bytes
from rales.cli.options import config_option
from rales.config import file as config
from rales.runtime.clock import utc_now
from rales.state.layout import Layout
from rales.state.store import (
    Database,
    Delivery,
    DeliveryStore,
    Job,
    JobStore,
    Notification,
    NotificationStore,
    RetentionStore,
)
from rales.state.store.facts import NodeFacts
from rales.state.store.jobs import JobFilter, StateConflict
from rales.state.store.refusals import RefusalStore

_LONGEST = 500
"""Characters of a reason; it may quote what came from outside."""
_COLOURS = {
    JobState.DONE: "green",
    JobState.REJECTED: "yellow",
    JobState.FAILED: "bold red",
    JobState.SUPERSEDED: "dim",
}


def _open(config_path: Path) -> Database:
    layout = Layout(config.load(config_path).node.data_dir)
    if not layout.state.exists():
        raise ConfigError(f"{layout.state} does not exist yet: has the node run?")
    return Database(layout.state)


class _Moment(click.ParamType[datetime]):
    """A time, or how long ago: 2026-01-31, 2026-01-31T08:00, 90m, 12h, 7d."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return it as an aware datetime; without an offset it is local time."""
        if isinstance(value, datetime):
            return value
        ago = re.fullmatch(r"(\d{1,6})([mhd])", value)
        if ago:
            now = utc_now()
            return now - min(int(ago[1]) * _UNITS[ago[2]], now - _EARLIEST)
        try:
            return max(datetime.fromisoformat(value).astimezone(UTC), _EARLIEST)
        except (ValueError, OverflowError):
            return self.fail(f"{value!r} is neither a time nor like 90m, 12h or 7d", param, ctx)


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing of a node is older."""
_LATEST = 50
_MOST = 1_000_000_000


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every event.")
@click.option("--series", help="Only the series whose UID starts or ends with this.")
@click.option("--accession", help="Only the series of this Accession Number.")
@click.option(
    "--state",
    "states",
    type=click.Choice([str(state) for state in JobState]),
    multiple=True,
    help="Only series in this state; may be given again.",
)
@click.option(
    "--since",
    type=_Moment(),
    help="Only what came to its state since: 2026-01-31, 2026-01-31T08:00, or 90m, 12h, 7d ago.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0, max=_MOST),
    default=_LATEST,
    show_default=True,
    help="The latest so many; 0: all.",
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
    """Show the latest series: state, since when, why, results, deliveries.

    \b
    rales status --state failed --since 7d       what failed this week, and why
    rales status --accession A123 --json         all about the series of one order
    """  # noqa: D301 - click wants the backspace character itself
    database = _open(config_path)
    jobs, deliveries = JobStore(database), DeliveryStore(database)
    notifications = NotificationStore(database)
    facts = NodeFacts(database).read() | _storage(database, config_path)
    wanted = JobFilter(
        states=tuple(JobState(state) for state in states),
        since=since,
        series=None if series is None else printable(series),
        accession_key=None if accession is None else accession_key(fsencode(accession.strip())),
        limit=limit or None,
    )
    chosen = jobs.select(wanted)
    omitted = jobs.number(wanted) - len(chosen) if len(chosen) == limit else 0
    if as_json:
        content = {
            "node": facts,
            "refused": refusals.as_dicts(RefusalStore(database).all()),
            "series": [
                _as_dict(job, jobs, deliveries.of_job(job.id))
                | {"notifications": _told(notifications.of_job(job.id))}
                for job in chosen
            ],
            "omitted": omitted,
        }
        click.echo(json.dumps(content, indent=2))
        return
    console = Console()
    console.print(_facts(facts))
    console.print(
        _table((job, deliveries.of_job(job.id), notifications.of_job(job.id)) for job in chosen)
    )
    if omitted:
        console.print(f"{omitted} earlier ones are not shown; --limit 0 shows all.")
    if not chosen:
        asked = series or accession or states or since
        console.print("No such series." if asked else "No series yet.")
    if refused := refusals.table(RefusalStore(database).all()):
        console.print()
        console.print(refused)


def _storage(database: Database, config_path: Path) -> dict[str, str]:
    """Return what is kept and what is free, as facts of the node."""
    kept = RetentionStore(database).kept()
    free = free_bytes(Layout(config.load(config_path).node.data_dir).data_dir)
    facts = {"kept": f"{kept.images} images, {kept.size / 1e9:.1f} GB"}
    if kept.oldest:
        facts["oldest"] = f"{kept.oldest:%Y-%m-%d}"
    return facts | {"free": f"{free / 1e9:.0f} GB"}


def _facts(facts: Mapping[str, str]) -> Text:
    line = Text()
    for name, value in facts.items():
        line.append("  " if line else "").append(name, "dim").append(f" {printable(value)}")
    return line


def _matches(job: Job, series: str) -> bool:
    return job.series_uid.startswith(series) or job.series_uid.endswith(series)


def _table(rows: Iterable[tuple[Job, list[Delivery], list[Notification]]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("series", "rev", "images", "state", "since", "why / result", "deliveries"):
        table.add_column(heading, overflow="fold")
    for job, sent, told in rows:
        colour = _COLOURS.get(job.state, "cyan")
        table.add_row(
            *map(Text, (job.series_uid, str(job.revision), str(job.instance_count or ""))),
            Text(job.state, colour),
            *map(Text, (_local(job.since), _why(job), _lines(sent, told))),
        )
    return table


def _local(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def _why(job: Job) -> str:
    parts = [f"{job.reason}: {job.message}" if job.reason else job.message]
    if job.result:
        found = job.result["findings"]
        parts.append(
            f"{found['involved_percent']} % involved, {found['lesion_ml']} ml, {found['severity']}"
            if found["lesions"] and found["severity"]
            else found.get("verdict", "no lesion found")
        )
        parts.extend(found["quality_flags"])
        parts.append(_since(job.result.get("evolution")))
    if job.released_at:
        parts.append(f"released {job.released_at:%Y-%m-%d}")
    return printable("; ".join(dict.fromkeys(part for part in parts if part)), _LONGEST)


def _since(evolution: Mapping[str, Any] | None) -> str:
    """Say what changed since the prior study; nothing where there is none."""
    if not evolution:
        return ""
    when = f"{evolution['prior_acquired'][:10]} ({evolution['interval_days']} days)"
    if "involved_percent_change" not in evolution:
        return f"not compared with {when}: {evolution['comparison']}"
    return (
        f"since {when}: {evolution['involved_percent_change']:+.1f} points, "
        f"{evolution['lesion_ml_change']:+.1f} ml"
    )


def _lines(sent: list[Delivery], told: list[Notification]) -> str:
    lines = []
    for delivery in sent:
        line = f"{delivery.role} -> {delivery.destination}: {delivery.state}"
        if delivery.state is not DeliveryState.DELIVERED and delivery.attempts:
            line += f" (attempt {delivery.attempts}: {delivery.message})"
        lines.append(line)
    for one in told:
        line = f"told {one.event} -> {one.target}: {one.state}"
        if one.state is not DeliveryState.DELIVERED and one.message:
            line += f" (attempt {one.attempts}: {one.message})"
        lines.append(line)
    return "\n".join(printable(line, _LONGEST) for line in lines)


def _told(notifications: list[Notification]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(one.message_id),
            "target": one.target,
            "event": one.event,
            "state": one.state,
            "attempts": one.attempts,
            "status": one.status,
            "message": one.message,
            "due_at": one.due_at.isoformat(),
            "settled_at": one.settled_at.isoformat() if one.settled_at else None,
        }
        for one in notifications
    ]


def _as_dict(job: Job, jobs: JobStore, sent: list[Delivery]) -> dict[str, Any]:
    return {
        "job": job.id,
        "series_uid": job.series_uid,
        "study_uid": job.study_uid,
        "calling_ae": job.calling_ae,
        "revision": job.revision,
        "instances": job.instance_count,
        "state": job.state,
        "since": job.since.isoformat(),
        "reason": job.reason,
        "message": job.message,
        "attempts": job.attempts,
        "result": job.result,
        "released_at": job.released_at.isoformat() if job.released_at else None,
        "deliveries": [
            {
                "role": delivery.role,
                "destination": delivery.destination,
                "sop_instance_uid": delivery.sop_instance_uid,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "status": delivery.status,
                "message": delivery.message,
                "due_at": delivery.due_at.isoformat(),
                "settled_at": delivery.settled_at.isoformat() if delivery.settled_at else None,
            }
            for delivery in sent
        ],
        "events": [
            {
                "at": event.at.isoformat(),
                "before": event.before,
                "after": event.after,
                "message": event.message,
            }
            for event in jobs.events(job.id)
        ],
    }


@click.command()
@config_option
@click.argument("series", required=False)
@click.option("--all-failed", is_flag=True, help="Every series whose last revision failed.")
def retry(config_path: Path, series: str | None, all_failed: bool) -> None:  # noqa: FBT001
    """Start a finished series again: SERIES is its UID, or how it starts or ends.

    A series without results, or whose result files are lost or damaged, is analysed again;
    one whose delivery failed is delivered again. Exit status 1 when one cannot be. The
    objects keep their UIDs, so no destination shows a duplicate. Works while the node runs,
    and before it is started.
    """
    if (series is None) != all_failed:
        raise click.UsageError("give either a SERIES or --all-failed")
    database = _open(config_path)
    jobs = JobStore(database)
    latest = {job.series_uid: job for job in jobs.all()}.values()
    if all_failed:
        chosen = [job for job in latest if job.state is JobState.FAILED]
    else:
        chosen = [job for job in latest if _matches(job, str(series))]
        if len(chosen) != 1:
            raise click.UsageError(f"{len(chosen)} series match {series!r}; one is needed")
    conflicts = 0
    for job in chosen:
        try:
            after = jobs.retry(job, at=utc_now())
        except StateConflict as error:
            conflicts += 1
            click.echo(f"Error: {job.series_uid} is {job.state}: {error}", err=True)
        else:
            click.echo(f"{job.series_uid}: {job.state} -> {after}")
    if not chosen:
        click.echo("nothing to retry")
    if conflicts:
        raise click.exceptions.Exit(1)
