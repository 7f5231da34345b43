"""A receiver in a process of its own, which a test may kill between two steps of a C-STORE.

``python receiving_child.py DATA STEP NUMBER DELAY`` prints its port and process ID. It
kills itself with SIGKILL when it reaches ``STEP`` for the ``NUMBER``-th time; it never reaches the
step ``never``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rales.state.layout import Layout
from rales.state.store import Database, GroupedIntake, InstanceStore
from rales.state.store.clock import ClockStore
from scp import spool as spool_module
from scp.server import ScpSettings, start
from scp.spool import Spool

STEPS = ("before write", "before rename", "before fsync", "before record", "before answer")


def main() -> None:
    data, step, number, delay = sys.argv[1:]
    layout = Layout(Path(data))
    database = Database(layout.state)
    ClockStore(database).note_running(datetime.now(UTC))
    store = InstanceStore(database, on_change=lambda: None)
    intake = GroupedIntake(database, store, delay_seconds=float(delay))
    _kill_at(step, int(number), intake)
    scp = start(
        ScpSettings(ae_title="RALES", host="127.0.0.1", port=0),
        spool=Spool(layout.spool),
        intake=intake,
        clock=lambda: datetime.now(UTC),
    )
    sys.stdout.write(f"{scp.port} {os.getpid()}\n")
    sys.stdout.flush()
    signal.pause()


def _kill_at(step: str, number: int, intake: GroupedIntake) -> None:
    """Kill this process before or after the call that ``step`` names."""
    left = [number]

    def die() -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def dying(*arguments: Any, **named: Any) -> Any:
            die()
            return call(*arguments, **named)

        setattr(owner, name, dying)

    def after(owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def dying(*arguments: Any, **named: Any) -> Any:
            answer = call(*arguments, **named)
            die()
            return answer

        setattr(owner, name, dying)

    actions: dict[str, Callable[[], None]] = {
        "before write": lambda: before(spool_module, "_write_all"),
        "before rename": lambda: before(Path, "replace"),
        "before fsync": lambda: after(Path, "replace"),
        "before record": lambda: before(intake, "record"),
        "before answer": lambda: after(intake, "record"),
    }
    if step in actions:
        actions[step]()


if __name__ == "__main__":
    main()
