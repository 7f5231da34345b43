"""The webhook notification: JSON, signed according to Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from chestct.errors import ConfigError
from chestct.results import ResultObject
from rales.state.results import stored_findings
from rales.state.store import Job, Notification
from rales.steps.notify.subject import Subject
from rales.steps.notify.transport import Request, read_secret

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
"""Bytes of a key (the specification, section "Signature scheme")."""

NOTICE = "AI-made, research use only, not verified by a radiologist."


def read_key(path: Path) -> bytes:
    """Return the key in a secret file: base64, with or without ``whsec_``.

    Raises:
        ConfigError: The file holds no such key.
    """
    text = read_secret(path).removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{path}: not base64; `openssl rand -base64 32` makes one") from error
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ConfigError(
            f"{path}: the key has {len(key)} bytes, not {_SHORTEST} to {_LONGEST};"
            " `openssl rand -base64 32` makes one"
        )
    return key


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the value of ``webhook-signature``: HMAC-SHA256 over id, time and body."""
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def webhook_request(content: Mapping[str, Any], key: bytes, *, at: datetime) -> Request:
    """Return the signed request for ``content``.

    Args:
        content: Its ``id`` lets the receiver recognize a repetition.
        key: Shared with the receiver.
        at: The time of this attempt; a receiver refuses a message that is old or from the future.
    """
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    message_id, timestamp = str(content["id"]), str(int(at.timestamp()))
    return Request(
        body=body,
        headers={
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(key, message_id, timestamp, body),
        },
    )


def webhook_content(
    notification: Notification,
    job: Job,
    subject: Subject | None,
    objects: Sequence[ResultObject],
) -> dict[str, Any]:
    """Return the content of a webhook about the end of a job.

    It names the patient where ``subject`` is given, and the ``objects`` that a destination took.
    """
    data = {
        "study_uid": job.study_uid,
        "series_uid": job.series_uid,
        "revision": job.revision,
        "instances": job.instance_count,
        "calling_ae": job.calling_ae,
        "state": str(notification.event),
        "reason": notification.reason,
        "message": notification.why,
        "findings": stored_findings(job),
        "results": [_object(item) for item in objects],
        "ai_made": True,
        "verified": False,
        "research_use_only": True,
        "notice": NOTICE,
    }
    if subject is not None:
        data |= {
            "patient_id": subject.patient_id,
            "issuer_of_patient_id": subject.issuer,
            "accession_number": subject.accession_number,
        }
    return {
        "type": f"series.{notification.event}",
        "id": str(notification.message_id),
        "timestamp": notification.occurred_at.isoformat(timespec="milliseconds"),
        "data": data,
    }


def _object(item: ResultObject) -> dict[str, str]:
    return {
        "role": item.role,
        "sop_class_uid": item.sop_class_uid,
        "sop_instance_uid": item.sop_instance_uid,
        "series_uid": item.series_uid,
    }
