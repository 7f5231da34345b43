import base64
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from http_receiver import HttpReceiver, http_receiver
from notify_rig import ISSUER_SYSTEM, KEY, MakeRig, Rig, write_header
from state_rig import NOON, received_instance

from chestct.series import ReceivedInstance
from rales.config import file as config
from rales.state.store import Database, InstanceStore


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
        return received_instance(
            tmp_path / f"{number}-{content}",
            series=series,
            number=number,
            content_digest=f"{series}-{number}-{content}",
            received_at=NOON + timedelta(seconds=after),
            slice_position=3.0 * number,
        )

    return make


@pytest.fixture
def make_rig(
    database: Database, make_instance: Callable[..., ReceivedInstance], tmp_path: Path
) -> MakeRig:
    def make(patient: dict[str, Any] | None = None, **keys: Any) -> Rig:
        (tmp_path / "key").write_text("whsec_" + base64.b64encode(KEY).decode() + "\n")
        instance = make_instance(1)
        write_header(instance.path, patient or {})
        InstanceStore(database, on_change=lambda: None).record(instance)
        kind = {"kind": "webhook", "secret_file": str(tmp_path / "key")}
        if keys.get("kind") == "fhir":
            kind = {"patient_id_system": ISSUER_SYSTEM}
        raw = {
            "notifications": [{"name": "ris", **kind, **keys}],
            "delivery": {"timeout_seconds": 1.0},
        }
        return Rig(database, tmp_path, config.parse(raw))

    return make


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running
