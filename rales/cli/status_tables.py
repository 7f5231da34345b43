"""Print a status report as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chestct.findings import Coverage, Outcome
from chestct.states import DeliveryState, JobState
from chestct.text import printable
from chestct.verdict import unassessed
from rales.cli.output import add_row, table
from rales.cli.status_report import SeriesStatus, StatusReport
from rales.state.results import stored_findings
from rales.state.store import Job
from rales.state.store.refusals import Refusal
from rales.state.store.transitions import NUMBERS_TAKEN

_SHOWN_REFUSALS = 20
_COLOURS = {
    JobState.DONE: "green",
    JobState.REJECTED: "yellow",
    JobState.FAILED: "bold red",
    JobState.SUPERSEDED: "dim",
}


def print_tables(report: StatusReport, *, nothing: str) -> None:
    """Print the report as tables; ``nothing`` is the line to print when no series matches."""
    console = Console()
    console.print(_facts(report.node))
    console.print(_series_table(report.series))
    if report.omitted:
        console.print(f"{report.omitted} earlier series are not shown; --limit 0 shows all.")
    if not report.series:
        console.print(nothing)
    if report.refusals:
        console.print()
        console.print(_refusals_table(report.refusals))


def _facts(facts: Mapping[str, str]) -> Text:
    line = Text()
    for name, value in facts.items():
        if name == NUMBERS_TAKEN:  # of no use to a person
            continue
        line.append("  " if line else "").append(name, "dim").append(f" {printable(value)}")
    return line


def _series_table(series: Sequence[SeriesStatus]) -> Table:
    shown = table("series", "rev", "images", "state", "since", "reason / result", "deliveries")
    for entry in series:
        job = entry.job
        add_row(
            shown,
            job.series_uid,
            job.revision,
            job.instance_count or "",
            Text(job.state, _COLOURS.get(job.state, "cyan")),
            _local(job.since),
            _result(job),
            Text("\n".join(printable(line, 500) for line in _deliveries(entry))),
        )
    return shown


def _refusals_table(refusals: Sequence[Refusal]) -> Table:
    shown = table("refused", "from", "times", "last", "reason")
    for refusal in refusals[:_SHOWN_REFUSALS]:
        peer = f"{refusal.peer.ae_title}@{refusal.peer.address}"
        at = _local(refusal.last_at)
        add_row(shown, refusal.kind, peer, refusal.count, at, refusal.reason)
    more = len(refusals) - _SHOWN_REFUSALS
    if more > 0:
        shown.caption = Text(f"{more} more reasons are not shown; --json shows all.")
    return shown


def _local(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def _result(job: Job) -> str:
    parts = [f"{job.reason}: {job.message}" if job.reason else job.message]
    if job.result and (findings := stored_findings(job)):
        parts.extend(_claim(findings))
        parts.extend(findings["quality_flags"])
        parts.append(_evolution(job.result.get("evolution")))
    if job.released_at:
        parts.append(f"released {job.released_at:%Y-%m-%d}")
    return "; ".join(dict.fromkeys(part for part in parts if part))


def _claim(findings: Mapping[str, Any]) -> Iterator[str]:
    """Return the outcome; with a volume, or with its scope where no lesion is marked."""
    if findings["lesions"]:
        yield findings.get("verdict", Outcome.FOUND)  # earlier versions stored no verdict
        yield f"{findings['lesion_ml']} ml"
    elif "outcome" in findings:
        yield findings["verdict"]
        yield findings["scope"]
    else:
        yield findings["verdict"]
        yield unassessed(Coverage(findings.get("covers", Coverage.BOTH)))


def _evolution(evolution: Mapping[str, Any] | None) -> str:
    """Return what changed since the prior study; empty without a prior study."""
    if not evolution:
        return ""
    when = f"{evolution['prior_acquired'][:10]} ({evolution['interval_days']} days)"
    if "involved_percent_change" not in evolution:
        return f"not compared with {when}: {evolution['comparison']}"
    return (
        f"since {when}: {evolution['involved_percent_change']:+.1f} points, "
        f"{evolution['lesion_ml_change']:+.1f} ml"
    )


def _deliveries(entry: SeriesStatus) -> Iterator[str]:
    for delivery in entry.deliveries:
        line = f"{delivery.role} -> {delivery.destination}: {delivery.state}"
        if delivery.state is not DeliveryState.DELIVERED and delivery.attempts:
            line += f" (attempt {delivery.attempts}: {delivery.message})"
        yield line
    for notification in entry.notifications:
        line = f"notification {notification.event} -> {notification.target}: {notification.state}"
        if notification.state is not DeliveryState.DELIVERED and notification.message:
            line += f" (attempt {notification.attempts}: {notification.message})"
        yield line
