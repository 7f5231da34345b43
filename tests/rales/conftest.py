from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chestct.series import ReceivedInstance
from chestct.uids import Uid, derive_uid
from rales.store import Database

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
