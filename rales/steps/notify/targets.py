"""Makes the targets of notifications from the configuration."""

from __future__ import annotations

import ipaddress
import logging
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from chestct.errors import NotificationImpossible
from chestct.results import ResultObject
from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from dicom_out.network.allowance import Conversations
from rales.config.sections import Config, NotificationConfig
from rales.state.results import load_objects
from rales.state.store import DeliveryStore, InstanceStore, Job, Notification
from rales.steps.notify.fhir import FhirReport, check_transaction
from rales.steps.notify.result import read_result
from rales.steps.notify.subject import Subject, read_subject
from rales.steps.notify.transport import Endpoint, Request, read_secret
from rales.steps.notify.webhook import read_key, webhook_content, webhook_request
from rales.steps.notify.worker import Target

_LOG = logging.getLogger(__name__)
_NOT_DELIVERED = (DeliveryState.REFUSED, DeliveryState.REPLACED, DeliveryState.WITHDRAWN)
_ENDS = (JobState.DONE, JobState.REJECTED, JobState.FAILED)


def targets_of(
    config: Config,
    instances: InstanceStore,
    deliveries: DeliveryStore,
    under_way: Conversations | None = None,
) -> dict[str, Target]:
    """Return the configured targets by name.

    Raises:
        ConfigError: A secret cannot be read.
    """
    seconds = config.delivery.timeout_seconds
    return {
        section.name: _target(
            section, instances, deliveries, endpoint_of(section, seconds, under_way)
        )
        for section in config.notifications
    }


def endpoint_of(
    section: NotificationConfig, seconds: float, under_way: Conversations | None = None
) -> Endpoint:
    """Return the endpoint of a target, after checking that its secrets can be read.

    Raises:
        ConfigError: A secret cannot be read.
    """
    if section.token_file is not None:
        read_secret(section.token_file)
    if section.secret_file is not None:
        read_key(section.secret_file)
    return Endpoint(
        url=section.url,
        ca_file=section.ca_file,
        token_file=section.token_file,
        timeout_seconds=seconds,
        under_way=under_way,
    )


def _target(
    section: NotificationConfig,
    instances: InstanceStore,
    deliveries: DeliveryStore,
    endpoint: Endpoint,
) -> Target:
    if _is_unencrypted(section):
        _LOG.warning(
            "notification %r sends the Patient ID unencrypted: give an https url", section.name
        )
    if section.kind == "fhir":
        assert section.patient_id_system is not None
        return Target(
            name=section.name,
            events=(JobState.DONE,),
            compose=partial(_fhir, section.patient_id_system, instances, deliveries=deliveries),
            post=endpoint.post,
            judge=check_transaction,
            latest_only=True,
        )
    assert section.secret_file is not None
    return Target(
        name=section.name,
        events=_ENDS,
        compose=partial(
            _webhook,
            section.secret_file,
            instances if section.identify else None,
            deliveries=deliveries,
        ),
        post=endpoint.post,
    )


def _is_unencrypted(section: NotificationConfig) -> bool:
    parts = urlsplit(section.url)
    if parts.scheme == "https" or not (section.identify or section.kind == "fhir"):
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def _webhook(
    secret: Path,
    instances: InstanceStore | None,
    notification: Notification,
    job: Job,
    at: datetime,
    *,
    deliveries: DeliveryStore,
) -> Request:
    subject = _subject(instances, job.series_uid) if instances else None
    content = webhook_content(notification, job, subject, _delivered_objects(job, deliveries))
    return webhook_request(content, read_key(secret), at=at)


def _fhir(
    system: str,
    instances: InstanceStore,
    notification: Notification,
    job: Job,
    at: datetime,
    *,
    deliveries: DeliveryStore,
) -> Request:
    del at  # a bundle is the same at every attempt
    return FhirReport(
        issued=notification.occurred_at,
        job=job,
        result=read_result(job),
        subject=_subject(instances, job.series_uid),
        objects=_delivered_objects(job, deliveries),
        patient_id_system=system,
    ).request()


def _delivered_objects(job: Job, deliveries: DeliveryStore) -> list[ResultObject]:
    """Return the result objects that a destination has or will get; all without a destination.

    An object that every destination refused, and a fallback for a SEG that none refused, are not
    among them.
    """
    planned = deliveries.of_job(job.id)
    roles = {delivery.role for delivery in planned if delivery.state not in _NOT_DELIVERED}
    return [item for item in load_objects(job) if item.role in roles or not planned]


def _subject(instances: InstanceStore, series_uid: Uid) -> Subject:
    images = sorted(instances.of_series(series_uid), key=lambda image: image.sop_instance_uid)
    if not images:
        raise NotificationImpossible("no image of the series is known")
    return read_subject(images[0].path)
