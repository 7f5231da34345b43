"""What a series came to is told after all, whatever is killed or down meanwhile."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle
from http_receiver import HttpReceiver, http_receiver
from ports import free_port
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tiny_node import StoringPacs, TinyNode, send_files, write_models, write_tiny_series
from waiting import wait_for

from phantom import Thorax

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
PATIENT = "QX-NOTIFY-17"


@pytest.fixture
def receiver() -> HttpReceiver:
    """Return one that does not listen yet."""
    return HttpReceiver(port=free_port())


@pytest.fixture
def node(
    thorax: Thorax, pacs: StoringPacs, receiver: HttpReceiver, tmp_path: Path
) -> Iterator[TinyNode]:
    (tmp_path / "key").write_text(f"{KEY}\n")
    here = f"http://127.0.0.1:{receiver.port}"
    extra = (
        f'[[notifications]]\nname = "hook"\nkind = "webhook"\nurl = "{here}/hook"\n'
        'secret_file = "key"\n'
        f'[[notifications]]\nname = "ehr"\nkind = "fhir"\nurl = "{here}/fhir"\n'
        'patient_id_system = "urn:oid:2.16.840.1.113883.19.5"\n'
    )
    models = write_models(tmp_path / "models", thorax)
    running = TinyNode(tmp_path, models, [pacs.start()], extra=extra)
    yield running
    running.end()


def test_a_kill_loses_no_message_and_tells_none_twice(
    node: TinyNode, pacs: StoringPacs, receiver: HttpReceiver, thorax: Thorax, tmp_path: Path
) -> None:
    series = write_tiny_series(thorax, tmp_path, PATIENT)
    node.start()
    assert send_files(node.port, series.files, set())
    assert node.ended(series.uid) == "done"
    sql = "SELECT target, state, attempts FROM notifications ORDER BY target"
    wait_for("an attempt at each", lambda: [row for row in node.rows(sql) if row[2]][1:])
    node.kill()
    assert {row[1] for row in node.rows(sql)} == {"pending"}
    command = [sys.executable, "-m", "rales", "status", "--json", "--config"]
    shown = subprocess.run(
        [*command, str(node.write_config())], check=True, capture_output=True, text=True
    )
    (job,) = json.loads(shown.stdout)["series"]
    assert [one["target"] for one in job["notifications"]] == ["ehr", "hook"]
    assert all("no connection" in one["message"] for one in job["notifications"])

    with http_receiver(receiver):
        node.start()
        wait_for("both to be told", lambda: {row[1] for row in node.rows(sql)} == {"delivered"})
        node.terminate()
    told = {one.path: one for one in receiver.received}
    assert len(receiver.received) == len(told) == 2
    hook = told["/hook"]
    assert hook.json["data"]["series_uid"] == series.uid
    headers = dict(hook.headers)
    assert Webhook(KEY).verify(hook.body, headers) == hook.json
    for key, body in ((OTHER_KEY, hook.body), (KEY, hook.body.replace(b"done", b"fail"))):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)
    assert PATIENT.encode() not in hook.body
    assert PATIENT.encode() in told["/fhir"].body
    assert PATIENT not in node.log()
    (sr,) = pacs.of_series(series.uid)["SR"]
    results = {one["sop_instance_uid"] for one in hook.json["data"]["results"]}
    assert str(sr.SOPInstanceUID) in results
    bundle = Bundle.model_validate_json(told["/fhir"].body)
    assert bundle.entry[-1].resource.identifier[1].value == f"urn:oid:{sr.SOPInstanceUID}"
    assert volumes(sr) == {
        entry.resource.valueQuantity.value
        for entry in bundle.entry
        if entry.resource.get_resource_type() == "Observation"
        and entry.resource.code.coding[0].code == "118565006"
        and entry.resource.valueQuantity
    }


def volumes(sr: pydicom.Dataset) -> set[Decimal]:
    """Return every volume of a lung, or of both, that the SR states."""
    found: set[Decimal] = set()
    for item in _items(sr):
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == "LUNG_VOLUME":
            found.add(Decimal(str(item.MeasuredValueSequence[0].NumericValue)))
    return found


def _items(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _items(child)
