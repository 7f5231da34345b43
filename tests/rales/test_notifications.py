"""What is told of the end of a series, over real sockets: the outbox and the webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from click.testing import CliRunner
from http_receiver import HttpReceiver, http_receiver
from notify_rig import HEALTHY, ILL, ISSUER_SYSTEM, KEY, PATIENT_ID, MakeRig

from chestct.errors import ConfigError
from chestct.states import DeliveryState, JobState
from rales.cli import cli
from rales.cli.check import check_notification
from rales.config import file as config
from rales.state.store.database import to_text
from rales.state.store.transitions import StateConflict
from rales.steps.notify.targets import endpoint_of
from rales.steps.retry import retry

from .conftest import NOON


def test_a_rejection_is_told_signed_and_without_the_patient(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(url=receiver.url())
    rig.reject()
    rig.send()
    (got,) = receiver.received
    assert rig.told.state is DeliveryState.DELIVERED
    assert got.json["type"] == "series.rejected"
    data = got.json["data"]
    assert (data["series_uid"], data["study_uid"]) == ("1.2.3", "1.2")
    assert (data["reason"], data["message"]) == ("localizer", "a localizer is not analysed")
    assert data["findings"] is None
    assert (data["ai_made"], data["verified"], data["research_use_only"]) == (True, False, True)
    for secret in (PATIENT_ID, "Quimby", "ACC9"):
        assert secret.encode() not in got.body
    stamp = got.headers["webhook-timestamp"]
    assert stamp == str(int(NOON.timestamp()))
    signed = f"{got.json['id']}.{stamp}.".encode() + got.body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert got.headers["webhook-id"] == got.json["id"]
    forged = base64.b64encode(hmac.digest(b"x" * 32, signed, hashlib.sha256)).decode()
    assert forged not in got.headers["webhook-signature"]


def test_identify_adds_the_patient_id_and_never_the_name(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(url=receiver.url(), identify=True)
    rig.finish(ILL)
    rig.send()
    (got,) = receiver.received
    assert got.json["type"] == "series.done"
    assert got.json["data"]["patient_id"] == PATIENT_ID
    assert got.json["data"]["findings"] == {"lesions": 1, "extent": "mild"}
    assert [one["sop_instance_uid"] for one in got.json["data"]["results"]] == ["2.25.7", "2.25.8"]
    assert b"Quimby" not in got.body


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        ({"seg": "replaced", "sr": "delivered", "secondary-capture": "delivered"}, ["8", "9"]),
        ({"seg": "delivered", "sr": "delivered"}, ["7", "8"]),
        ({"seg": "refused", "sr": "delivered"}, ["8"]),
        ({}, ["7", "8", "9"]),
    ],
    ids=["replaced", "fallback not needed", "refused", "no destination"],
)
def test_only_what_some_destination_took_is_named(
    ends: dict[str, str], found: list[str], make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(url=receiver.url())
    rig.finish(ILL, extra="secondary-capture")
    with rig.database.transaction() as tx:
        tx.executemany(
            "INSERT INTO deliveries (job_id, role, destination, sop_instance_uid, state,"
            " created_at, due_at) VALUES (?, ?, 'pacs', '2.25.1', ?, ?, ?)",
            [(rig.job.id, role, end, to_text(NOON), to_text(NOON)) for role, end in ends.items()],
        )
    rig.send()
    (got,) = receiver.received
    named = [one["sop_instance_uid"] for one in got.json["data"]["results"]]
    assert named == [f"2.25.{number}" for number in found]


def test_what_fails_is_sent_again_with_the_same_id_and_a_new_signature(
    make_rig: MakeRig, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver.answers = [(503, f"no room for {PATIENT_ID}"), (401, ""), (307, "")]
    rig = make_rig(url=receiver.url(), identify=True)
    rig.reject()
    assert rig.send() == NOON + timedelta(seconds=5)
    assert (rig.told.state, rig.told.status) == (DeliveryState.PENDING, 503)
    rig.send(4)
    assert len(receiver.received) == 1  # not yet due
    rig.send(1)
    assert rig.told.attempts == 2
    rig.send(10)
    rig.send(20)
    assert (rig.told.state, rig.told.attempts) == (DeliveryState.DELIVERED, 4)
    assert {one.path for one in receiver.received} == {"/hook"}  # the redirect was not followed
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
    assert len({one.headers["webhook-signature"] for one in receiver.received}) == 4
    assert "HTTP 503" in caplog.text
    assert PATIENT_ID not in caplog.text
    kept = "".join(map(str, map(tuple, rig.database.rows("SELECT * FROM notifications"))))
    assert PATIENT_ID not in kept


def test_a_refusal_for_good_is_not_repeated(make_rig: MakeRig, receiver: HttpReceiver) -> None:
    receiver.answers = [(422, "")]
    rig = make_rig(url=receiver.url())
    rig.reject()
    assert rig.send() is None
    assert (rig.told.state, rig.told.message) == (DeliveryState.REFUSED, "HTTP 422")
    assert rig.job.state is JobState.REJECTED


def test_who_never_answers_or_refuses_the_connection_is_given_up_in_the_end(
    make_rig: MakeRig,
) -> None:
    with http_receiver(HttpReceiver(answers=[None])) as silent:
        rig = make_rig(url=silent.url())
        rig.reject()
        rig.send()
        assert len(silent.received) == 1
        assert "no answer in time" in rig.told.message
    rig.send(10)  # nobody listens any more
    assert "no connection" in rig.told.message
    assert rig.told.state is DeliveryState.PENDING
    rig.send(72 * 3600)
    assert rig.told.state is DeliveryState.REFUSED
    assert re.match("given up: .*no connection", rig.told.message)


def test_an_answer_that_trickles_holds_nothing_up(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    receiver.trickle = True
    receiver.answers = [(200, "." * 1200)]
    rig = make_rig(url=receiver.url())
    rig.reject()
    began = time.monotonic()
    rig.send()
    assert time.monotonic() - began < 30  # the whole body takes a minute
    assert rig.told.state is DeliveryState.DELIVERED


def test_the_certificate_is_checked_and_the_token_travels(
    make_rig: MakeRig, tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    (tmp_path / "token").write_text("abc.def\n")
    with http_receiver(pair=stranger.issue("fake")) as fake:
        keys = {"ca_file": str(authority.file), "token_file": str(tmp_path / "token")}
        rig = make_rig(url=fake.url(scheme="https"), **keys)
        rig.reject()
        rig.send()
        assert "certificate verify failed" in rig.told.message
        assert not fake.received
    with http_receiver(HttpReceiver(port=fake.port), pair=authority.issue("true")) as true:
        rig.send(10)
        assert rig.told.state is DeliveryState.DELIVERED
        assert true.received[0].headers["Authorization"] == "Bearer abc.def"


def test_a_target_hears_of_the_ends_of_a_series_in_their_order(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    receiver.answers = [(503, "")]
    rig = make_rig(url=receiver.url())
    rig.reject()
    rig.send()
    retry(rig.jobs, rig.job, at=NOON)
    claimed = rig.jobs.claim(at=NOON)
    assert claimed is not None
    rig.jobs.move(claimed, JobState.FAILED, at=NOON, message="crashed", reason="analysis-crashed")
    rig.send(1)
    assert len(receiver.received) == 1
    rig.send(5)
    rig.send()
    assert [one.json["type"] for one in receiver.received] == [
        "series.rejected",
        "series.rejected",
        "series.failed",
    ]


def test_a_target_that_is_gone_from_the_configuration_ends_its_messages(
    make_rig: MakeRig,
) -> None:
    rig = make_rig(url="http://127.0.0.1:9/")
    rig.reject()
    assert rig.outbox.set_targets({}, at=NOON) == 1
    assert rig.told.state is DeliveryState.WITHDRAWN
    assert "configured" in rig.told.message


def test_a_move_that_fails_tells_nobody(make_rig: MakeRig) -> None:
    rig = make_rig(url="http://127.0.0.1:9/")
    stale = rig.claim()
    rig.jobs.move(stale, JobState.FAILED, at=NOON, message="crashed")
    with pytest.raises(StateConflict):
        rig.jobs.move(stale, JobState.REJECTED, at=NOON, message="no")
    assert rig.told.event is JobState.FAILED


def test_whether_anybody_is_there_is_asked_without_a_message(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(url=receiver.url())
    (one,) = rig.config.notifications
    assert endpoint_of(one, 0.5).probe().status == 405
    assert not receiver.received
    gone = one.model_copy(update={"url": "http://127.0.0.1:9/"})
    assert not endpoint_of(gone, 0.5).probe().reached


def test_the_check_before_a_start_says_who_is_not_there(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(url=receiver.url())
    (one,) = rig.config.notifications
    assert "answers (HTTP 405)" in check_notification(one, rig.config)
    gone = one.model_copy(update={"url": "http://127.0.0.1:9/"})
    with pytest.raises(ConfigError, match="no connection"):
        check_notification(gone, rig.config)


def test_status_shows_what_was_told_and_what_was_not(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    receiver.answers = [(503, "")]
    rig = make_rig(url=receiver.url())
    rig.reject()
    path = rig.folder / "rales.toml"
    path.write_text(f'[node]\ndata_dir = "{rig.folder}"\n')
    for said in ("notification rejected -> ris: pending (attempt 1: HTTP 503)", "ris: delivered"):
        rig.send(10)
        shown = CliRunner().invoke(
            cli, ["status", "--config", str(path)], env={"COLUMNS": "240"}, catch_exceptions=False
        )
        assert said in shown.output


def test_images_are_kept_while_a_message_waits(make_rig: MakeRig, receiver: HttpReceiver) -> None:
    rig = make_rig(kind="fhir", url=receiver.url())
    rig.finish(HEALTHY)
    with rig.database.transaction() as tx:
        tx.execute(
            "INSERT INTO deliveries (job_id, role, destination, sop_instance_uid, state,"
            " created_at, due_at) VALUES (?, 'sr', 'pacs', '2.25.8', 'delivered', ?, ?)",
            (rig.job.id, to_text(NOON), to_text(NOON)),
        )
    assert not rig.database.rows("SELECT * FROM releasable")
    rig.send()
    assert [row["series_uid"] for row in rig.database.rows("SELECT * FROM releasable")] == ["1.2.3"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": "webhook"}, "needs secret_file"),
        ({"kind": "fhir"}, "needs patient_id_system"),
        (
            {"kind": "fhir", "patient_id_system": ISSUER_SYSTEM, "identify": True},
            "identify, which does not apply",
        ),
        ({"kind": "webhook", "secret_file": "k", "token_file": "t"}, "not https"),
        ({"kind": "webhook", "secret_file": "k", "url": "ftp://a/"}, "write https://host/path"),
        ({"kind": "webhook", "secret_file": "k", "url": "https://a:b@c/"}, "keep them in files"),
        ({"kind": "webhook", "secret_file": "k", "identfy": True}, "'identify'"),
        ({"kind": "fhir", "patient_id_system": "our hospital"}, "absolute URI"),
    ],
)
def test_what_cannot_be_sent_is_said_at_once(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        config.parse({"notifications": [{"name": "a", "url": "http://h/", **keys}]})


def test_a_short_or_missing_key_is_said_at_the_start(make_rig: MakeRig, tmp_path: Path) -> None:
    (tmp_path / "short").write_text(base64.b64encode(b"short").decode())
    for name, said in (("short", "has 5 bytes"), ("none", "no secret can be read")):
        with pytest.raises(ConfigError, match=said):
            make_rig(url="http://h/", secret_file=str(tmp_path / name))
