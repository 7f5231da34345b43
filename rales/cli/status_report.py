"""What ``rales status`` shows, as read from the state file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rales.cli.environment import free_bytes
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
from rales.state.store.job import Event
from rales.state.store.queries import JobFilter
from rales.state.store.refusals import Refusal, RefusalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatus:
    """One analysis of a series, with its history and the results that it sent."""

    job: Job
    events: Sequence[Event]
    deliveries: Sequence[Delivery]
    notifications: Sequence[Notification]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """The state of the node.

    Attributes:
        node: Facts about the node by their name, such as its models and its free disk space.
        omitted: How many earlier series match, but exceed the limit.
    """

    node: dict[str, str]
    refusals: Sequence[Refusal]
    series: Sequence[SeriesStatus]
    omitted: int


def read_report(database: Database, layout: Layout, job_filter: JobFilter) -> StatusReport:
    """Read the state of the node, with the series that match the filter."""
    jobs, deliveries = JobStore(database), DeliveryStore(database)
    notifications = NotificationStore(database)
    selected = jobs.select(job_filter)
    cut = len(selected) == job_filter.limit
    return StatusReport(
        node=NodeFacts(database).read() | _disk_usage(database, layout),
        refusals=RefusalStore(database).all(),
        series=[
            SeriesStatus(
                job=job,
                events=jobs.events(job.id),
                deliveries=deliveries.of_job(job.id),
                notifications=notifications.of_job(job.id),
            )
            for job in selected
        ],
        omitted=jobs.number(job_filter) - len(selected) if cut else 0,
    )


def _disk_usage(database: Database, layout: Layout) -> dict[str, str]:
    """Return how much is stored and how much is free, as facts about the node."""
    kept = RetentionStore(database).kept()
    facts = {"kept": f"{kept.images} images, {kept.size / 1e9:.1f} GB"}
    if kept.oldest:
        facts["oldest"] = f"{kept.oldest:%Y-%m-%d}"
    return facts | {"free": f"{free_bytes(layout.data_dir) / 1e9:.0f} GB"}
