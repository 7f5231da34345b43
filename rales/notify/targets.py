"""From the configuration to the targets."""

from __future__ import annotations

import ipaddress
import logging
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from chestct.errors import NotificationImpossible
from chestct.states import JobState
from chestct.uids import Uid
from rales.notify.resources import read_result
from rales.notify.subject import Subject, read_subject
from rales.notify.transport import Endpoint, Request, read_secret
from rales.notify.webhook import read_key, webhook_content, webhook_request
from rales.notify.worker import Target
from rales.sections import Config, NotificationConfig
from rales.store import InstanceStore, Job, Notification

_LOG = logging.getLogger(__name__)
_ENDS = (JobState.DONE, JobState.REJECTED, JobState.FAILED)


def targets_of(config: Config, instances: InstanceStore) -> dict[str, Target]:
    """Return the configured targets by name.

    Raises:
        ConfigError: A secret cannot be read.
    """
    seconds = config.delivery.timeout_seconds
    return {one.name: _target(one, instances, seconds) for one in config.notifications}


def endpoint_of(one: NotificationConfig, seconds: float) -> Endpoint:
    """Return where a target listens, with its secrets looked at.

    Raises:
        ConfigError: A secret cannot be read.
    """
    if one.token_file is not None:
        read_secret(one.token_file)
    if one.secret_file is not None:
        read_key(one.secret_file)
    return Endpoint(
        url=one.url, ca_file=one.ca_file, token_file=one.token_file, timeout_seconds=seconds
    )


def _target(one: NotificationConfig, instances: InstanceStore, seconds: float) -> Target:
    endpoint = endpoint_of(one, seconds)
    if _in_clear(one):
        _LOG.warning("notification %r sends the Patient ID unencrypted: use https", one.name)
    if one.kind == "fhir":
        from rales.notify.fhir import taken  # noqa: PLC0415 - as in _fhir

        assert one.patient_id_system is not None
        return Target(
            name=one.name,
            events=(JobState.DONE,),
            compose=partial(_fhir, one.patient_id_system, instances),
            post=endpoint.post,
            judge=taken,
            latest_only=True,
        )
    assert one.secret_file is not None
    return Target(
        name=one.name,
        events=_ENDS,
        compose=partial(_webhook, one.secret_file, instances if one.identify else None),
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
    secret: Path, instances: InstanceStore | None, one: Notification, job: Job, at: datetime
) -> Request:
    subject = _subject(instances, job.series_uid) if instances else None
    return webhook_request(webhook_content(one, job, subject), read_key(secret), at=at)


def _fhir(
    system: str, instances: InstanceStore, one: Notification, job: Job, at: datetime
) -> Request:
    from rales.notify.fhir import fhir_request  # noqa: PLC0415 - imports 0.25 s of FHIR models

    del at  # a bundle is the same at every attempt
    return fhir_request(
        one, job, read_result(job), _subject(instances, job.series_uid), patient_id_system=system
    )


def _subject(instances: InstanceStore, series_uid: Uid) -> Subject:
    images = sorted(instances.of_series(series_uid), key=lambda image: image.sop_instance_uid)
    if not images:
        raise NotificationImpossible("no image of the series is known")
    return read_subject(images[0].path)
