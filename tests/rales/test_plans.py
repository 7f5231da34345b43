"""No statement of a loop, or that a C-STORE may wait for, looks at every row of a table that grows.

Every statement in ``rales.state.store`` is found in its source and explained by SQLite, so a new
one is looked at without being named here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rales.state.store
from rales.state.store import Database

GROWING = ("instances", "jobs", "job_events", "deliveries", "commitments", "notifications")
ASKED_BY_A_PERSON = {
    "JobQueries.all",
    "JobQueries.select",
    "JobQueries.number",
}
"""``rales status`` and ``rales retry``, in a process and on a connection of their own."""

AT_A_JUMP = {"_move_schedule", "_correct_records"}
"""Once, when the clock was set."""

OPEN = {
    "CommitmentStore.next_due",
    "CommitmentStore.due",
    "DeliveryStore.due",
    "DeliveryStore.next_due",
    "DeliveryStore.withdraw_unconfigured",
    "JobQueries.in_state",
    "JobQueries.next_due",
    "JobQueries.next_to_plan",
    "reopen",
    "JobQueries.to_plan",
    "NotificationStore.due",
    "NotificationStore.next_due",
    "NotificationStore.set_targets",
}
"""They ask for a state that every row leaves, so that an index of the states serves."""

_FILLED = re.compile(r"\b(?:NEW|OLD)\.\w+")
_NAMED = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+(?:AS\s+)?(\w+))?", re.IGNORECASE)


def _modules() -> list[ModuleType]:
    found = pkgutil.iter_modules(rales.state.store.__path__, "rales.state.store.")
    return [importlib.import_module(one.name) for one in found]


def _statements() -> Iterator[tuple[str, str]]:
    """Yield (function, SQL) of every call that runs a statement."""
    for module in _modules():
        tree = ast.parse(inspect.getsource(module))
        for outer in tree.body:
            inner = outer.body if isinstance(outer, ast.ClassDef) else [outer]
            for function in inner:
                if not isinstance(function, ast.FunctionDef):
                    continue
                prefix = f"{outer.name}." if isinstance(outer, ast.ClassDef) else ""
                for sql in _of_function(function, module):
                    yield f"{prefix}{function.name}", sql


def _of_function(function: ast.FunctionDef, module: ModuleType) -> Iterator[str]:
    known: dict[str, Any] = dict(vars(module))
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = _value(node.value, known)
            if isinstance(value, str):
                known[node.targets[0].id] = value
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in {"execute", "executemany", "rows"} and node.args:
            value = _value(node.args[0], known)
            yield value if isinstance(value, str) else f"? {ast.unparse(node.args[0])}"


def _value(node: ast.expr, known: dict[str, Any]) -> object:
    try:
        return eval(compile(ast.Expression(node), "<sql>", "eval"), dict(known))  # noqa: S307 - our own source
    except Exception:  # noqa: BLE001 - not a constant
        return None


def _scans(database: Database, sql: str) -> list[str]:
    """Return what SQLite would look at from end to end, of the tables that grow."""
    partial = {
        row["name"]
        for row in database.rows(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%WHERE%'"
        )
    }
    views = [row["sql"] for row in database.rows("SELECT sql FROM sqlite_master WHERE type='view'")]
    named = [pair for text in (sql, *views) for pair in _NAMED.findall(text)]
    names = {alias for table, alias in named if table in GROWING}.union(GROWING)
    plan = database.rows(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))
    found = []
    for row in plan:
        words = row["detail"].split()
        if words[0] == "SCAN" and words[1] in names and not set(words) & partial:
            found.append(row["detail"])
    return found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.sqlite")
    yield database
    database.close()


def test_every_statement_is_found(database: Database) -> None:
    found = list(_statements())
    assert len(found) > 60
    unknown = {name for name, sql in found if sql.startswith("?")}
    assert unknown <= ASKED_BY_A_PERSON | AT_A_JUMP | {"Database.rows"}
    assert _scans(database, "SELECT * FROM instances WHERE size = ?")
    assert _scans(database, "SELECT m.size FROM instances m WHERE m.size = ?")


def test_no_statement_of_a_loop_looks_at_every_row(database: Database) -> None:
    wrong = {
        (name, sql, tuple(scans))
        for name, sql in _statements()
        if name not in ASKED_BY_A_PERSON
        and re.match(r"(SELECT|UPDATE|DELETE|INSERT)\b", sql)
        and (scans := _scans(database, sql))
    }
    assert wrong == set()


def test_no_statement_looks_at_all_that_ever_ended(database: Database) -> None:
    """An index whose first column is the state does not help who asks for "done"."""
    wrong = set()
    for name, sql in _statements():
        if name in OPEN | ASKED_BY_A_PERSON or not re.match(r"(SELECT|UPDATE|DELETE)\b", sql):
            continue
        for row in database.rows(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")):
            if "(state=?" in row["detail"]:
                wrong.add((name, row["detail"]))
    assert wrong == set()


def test_no_trigger_looks_at_every_row(database: Database) -> None:
    triggers = database.rows("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    assert len(triggers) > 5
    for row in triggers:
        body = row["sql"].split("BEGIN", 1)[1].rsplit("END", 1)[0]
        for statement in filter(None, map(str.strip, body.split(";"))):
            assert not _scans(database, _FILLED.sub("1", statement)), row["name"]


def test_a_record_finds_its_row_by_its_uid(database: Database) -> None:
    """Not by its series, which may have thousands."""
    (sql,) = [sql for name, sql in _statements() if name == "_insert" and "current = 0" in sql]
    (plan,) = database.rows(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))
    assert "sqlite_autoindex_instances_1 (sop_instance_uid=?)" in plan["detail"]


def test_the_next_job_is_found_without_sorting_those_that_wait(database: Database) -> None:
    (sql,) = [sql for name, sql in _statements() if name == "JobStore.claim" and "ORDER" in sql]
    plan = [row["detail"] for row in database.rows(f"EXPLAIN QUERY PLAN {sql}", (None,))]
    assert plan == ["SCAN jobs USING INDEX jobs_to_claim"]


def test_a_message_that_waits_is_compared_with_its_own_series_only(database: Database) -> None:
    """Where thousands wait for a target that is down, each would be compared with each."""
    sql = dict(_statements())["NotificationStore.due"]
    plan = [row["detail"] for row in database.rows(f"EXPLAIN QUERY PLAN {sql}", (None, None))]
    assert "SEARCH e USING INDEX notifications_of_job (job_id=? AND rowid<?)" in plan
