"""From the configuration to the targets."""

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
from rales.steps.notify.resources import read_result
from rales.steps.notify.subject import Subject, read_subject
from rales.steps.notify.transport import Endpoint, Request, read_secret
from rales.steps.notify.webhook import read_key, webhook_content, webhook_request
from rales.steps.notify.worker import Target

_LOG = logging.getLogger(__name__)
_NOWHERE = (DeliveryState.REFUSED, DeliveryState.REPLACED, DeliveryState.WITHDRAWN)
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
        one.name: _target(one, instances, deliveries, endpoint_of(one, seconds, under_way))
        for one in config.notifications
    }


def endpoint_of(
    one: NotificationConfig, seconds: float, under_way: Conversations | None = None
) -> Endpoint:
    """Return where a target listens, with its secrets looked at.

    Raises:
        ConfigError: A secret cannot be read.
    """
    if one.token_file is not None:
        read_secret(one.token_file)
    if one.secret_file is not None:
        read_key(one.secret_file)
    return Endpoint(
        url=one.url,
        ca_file=one.ca_file,
        token_file=one.token_file,
        timeout_seconds=seconds,
        under_way=under_way,
    )


def _target(
    one: NotificationConfig,
    instances: InstanceStore,
    deliveries: DeliveryStore,
    endpoint: Endpoint,
) -> Target:
    if _in_clear(one):
        _LOG.warning("notification %r sends the Patient ID unencrypted: use https", one.name)
    if one.kind == "fhir":
        from rales.steps.notify.fhir import taken

        assert one.patient_id_system is not None
        return Target(
            name=one.name,
            events=(JobState.DONE,),
            compose=partial(_fhir, one.patient_id_system, instances, deliveries=deliveries),
            post=endpoint.post,
            judge=taken,
            latest_only=True,
        )
    assert one.secret_file is not None
    return Target(
        name=one.name,
        events=_ENDS,
        compose=partial(
            _webhook,
            one.secret_file,
            instances if one.identify else None,
            deliveries=deliveries,
        ),
        post=endpoint.post,
    )


def _in_clear(one: NotificationConfig) -> bool:
    parts = urlsplit(one.url)
    if parts.scheme == "https" or not (one.identify or one.kind == "fhir"):
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def _webhook(
    secret: Path,
    instances: InstanceStore | None,
    one: Notification,
    job: Job,
    at: datetime,
    *,
    deliveries: DeliveryStore,
) -> Request:
    subject = _subject(instances, job.series_uid) if instances else None
    content = webhook_content(one, job, subject, _taken_somewhere(job, deliveries))
    return webhook_request(content, read_key(secret), at=at)


def _fhir(
    system: str,
    instances: InstanceStore,
    one: Notification,
    job: Job,
    at: datetime,
    *,
    deliveries: DeliveryStore,
) -> Request:
    from rales.steps.notify.fhir import fhir_request

    del at  # a bundle is the same at every attempt
    return fhir_request(
        one,
        job,
        read_result(job),
        _subject(instances, job.series_uid),
        _taken_somewhere(job, deliveries),
        patient_id_system=system,
    )


def _taken_somewhere(job: Job, deliveries: DeliveryStore) -> list[ResultObject]:
    """Return the results that a receiver may find; all where there is no destination.

    Not what every destination refused, nor what was made in case one refuses the SEG.
    """
    sent = deliveries.of_job(job.id)
    roles = {one.role for one in sent if one.state not in _NOWHERE}
    return [item for item in load_objects(job) if item.role in roles or not sent]


def _subject(instances: InstanceStore, series_uid: Uid) -> Subject:
    images = sorted(instances.of_series(series_uid), key=lambda image: image.sop_instance_uid)
    if not images:
        raise NotificationImpossible("no image of the series is known")
    return read_subject(images[0].path)
