"""Print a status report as JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from rales.cli.status_report import SeriesStatus, StatusReport
from rales.state.results import stored_findings
from rales.state.store import Delivery, Notification
from rales.state.store.job import Event
from rales.state.store.refusals import Refusal


def print_json(report: StatusReport) -> None:
    """Print the whole report."""
    content = {
        "node": report.node,
        "refused": [_refusal_dict(refusal) for refusal in report.refusals],
        "series": [_series_dict(entry) for entry in report.series],
        "omitted": report.omitted,
    }
    click.echo(json.dumps(content, indent=2))


def _refusal_dict(refusal: Refusal) -> dict[str, Any]:
    return {
        "calling_ae": refusal.peer.ae_title,
        "address": refusal.peer.address,
        "refused": refusal.kind,
        "reason": refusal.reason,
        "count": refusal.count,
        "first_at": refusal.first_at.isoformat(),
        "last_at": refusal.last_at.isoformat(),
    }


def _series_dict(entry: SeriesStatus) -> dict[str, Any]:
    job = entry.job
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
        "result": job.result and {**job.result, "findings": stored_findings(job)},
        "released_at": _iso(job.released_at),
        "deliveries": [_delivery_dict(delivery) for delivery in entry.deliveries],
        "events": [_event_dict(event) for event in entry.events],
        "notifications": [_notification_dict(notification) for notification in entry.notifications],
    }


def _delivery_dict(delivery: Delivery) -> dict[str, Any]:
    return {
        "role": delivery.role,
        "destination": delivery.destination,
        "sop_instance_uid": delivery.sop_instance_uid,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "status": delivery.status,
        "message": delivery.message,
        "due_at": delivery.due_at.isoformat(),
        "settled_at": _iso(delivery.settled_at),
    }


def _event_dict(event: Event) -> dict[str, Any]:
    return {
        "at": event.at.isoformat(),
        "before": event.before,
        "after": event.after,
        "message": event.message,
    }


def _notification_dict(notification: Notification) -> dict[str, Any]:
    return {
        "id": str(notification.message_id),
        "target": notification.target,
        "event": notification.event,
        "state": notification.state,
        "attempts": notification.attempts,
        "status": notification.status,
        "message": notification.message,
        "due_at": notification.due_at.isoformat(),
        "settled_at": _iso(notification.settled_at),
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
