import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import ManualClock
from http_receiver import HttpReceiver, http_receiver
from notify_rig import ISSUER_SYSTEM, KEY, MakeRig, Rig, write_header

from chestct.series import ReceivedInstance
from chestct.uids import Uid, derive_uid
from rales.config import file as config
from rales.state.store import Database, InstanceStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def make_instance(tmp_path: Path) -> Callable[..., ReceivedInstance]:
    def make(
        number: int = 1, *, series: str = "1.2.3", content: str = "a", after: float = 0.0
    ) -> ReceivedInstance:
        return ReceivedInstance(
            path=tmp_path / f"{number}-{content}",
            sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance_uid=derive_uid(series, str(number)),
            series_uid=Uid(series),
            study_uid=Uid("1.2"),
            patient_key="p",
            transfer_syntax_uid=Uid("1.2.840.10008.1.2.1"),
            content_digest=f"{series}-{number}-{content}",
            size=10,
            received_at=NOON + timedelta(seconds=after),
            calling_ae="CT1",
            slice_position=3.0 * number,
        )

    return make


@pytest.fixture
def make_rig(
    database: Database, make_instance: Callable[..., ReceivedInstance], tmp_path: Path
) -> MakeRig:
    def make(patient: dict[str, Any] | None = None, **keys: Any) -> Rig:
        (tmp_path / "key").write_text("whsec_" + base64.b64encode(KEY).decode() + "\n")
        instances = InstanceStore(database, on_change=lambda: None)
        instance = make_instance(1)
        write_header(instance.path, patient or {})
        instances.record(instance)
        kind = {"kind": "webhook", "secret_file": str(tmp_path / "key")}
        if keys.get("kind") == "fhir":
            kind = {"patient_id_system": ISSUER_SYSTEM}
        raw = {
            "notifications": [{"name": "ris", **kind, **keys}],
            "delivery": {"timeout_seconds": 0.3},
        }
        return Rig(database, tmp_path, instances, ManualClock(NOON), config.parse(raw))

    return make


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running
