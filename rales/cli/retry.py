"""``rales retry``: start a finished series again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rales.cli.options import config_option

if TYPE_CHECKING:
    from rales.state.store import Job, JobStore


@click.command()
@config_option
@click.argument("series", required=False)
@click.option("--all-failed", is_flag=True, help="Retry every series whose last revision failed.")
def retry(config_path: Path, series: str | None, all_failed: bool) -> None:  # noqa: FBT001 - click
    """Analyse or deliver a finished series again.

    SERIES is a Series Instance UID, or the start or end of one. A series without results, or
    whose result files are missing or damaged, is analysed again. A series whose delivery failed
    goes again to the destinations that lack results, a series that is done to every destination.
    Result objects keep their UIDs, so no destination shows a duplicate. The node may be running or
    stopped.

    \b
    Examples:
      rales retry 1.2.840.113619.2.55.3.1     one series
      rales retry --all-failed                after a destination was down for days

    Exit status 1: a series could not be retried.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.cli.opening import layout_of, open_state
    from rales.runtime.clock import utc_now
    from rales.state.store import JobStore
    from rales.state.store.transitions import StateConflict
    from rales.steps.retry import retry as start_again

    if (series is None) != all_failed:
        raise click.UsageError("give either SERIES or --all-failed")
    jobs = JobStore(open_state(layout_of(config_path)))
    chosen = _choose(jobs, series)
    conflicts = 0
    for job in chosen:
        try:
            after = start_again(jobs, job, at=utc_now())
        except StateConflict as error:
            conflicts += 1
            click.echo(f"Error: {job.series_uid} is {job.state}: {error}", err=True)
        else:
            click.echo(f"{job.series_uid}: {job.state} -> {after}")
    if not chosen:
        click.echo("nothing to retry")
    if conflicts:
        raise click.exceptions.Exit(1)


def _choose(jobs: JobStore, series: str | None) -> list[Job]:
    """Return the last revision of the series; without ``series``, of each that failed.

    Raises:
        click.UsageError: Not exactly one series matches.
    """
    from chestct.states import JobState

    latest = {job.series_uid: job for job in jobs.all()}.values()
    if series is None:
        return [job for job in latest if job.state is JobState.FAILED]
    chosen = [
        job
        for job in latest
        if job.series_uid.startswith(series) or job.series_uid.endswith(series)
    ]
    if len(chosen) != 1:
        raise click.UsageError(
            f"{len(chosen)} series match {series!r}, but exactly 1 must: "
            "`rales status` shows their UIDs"
        )
    return chosen
