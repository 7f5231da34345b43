"""Hundreds of hostile inputs for one real node over real sockets: it stays, and stays right.

The corpus is in tests/support: hostile_pdus.py, hostile_messages.py, hostile_datasets.py.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hostile_datasets
import hostile_messages
import hostile_pdus
import pytest
from hostile import Attack, Fate, Wire, echo
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    wait_for,
    write_models,
    write_tiny_series,
)

from scp import headers

ECHO_SECONDS = 10.0
"""The promise is one second; a busy machine must not make a test fail."""
ANSWER_SECONDS = 20.0
WITHIN = 1.0

_LISTS = {
    "pdus": hostile_pdus.attacks(),
    "messages": hostile_messages.attacks(),
    "data sets": hostile_datasets.attacks(),
}


@dataclass
class Siege:
    """The node under attack, and what it has acknowledged."""

    root: Path
    node: TinyNode
    pacs: StoringPacs
    acknowledged: list[bytes] = field(default_factory=list)
    echoes: list[float] = field(default_factory=list)
    outside: set[Path] = field(default_factory=set)

    def attack(self, attack: Attack) -> str | None:
        """Send one attack; return what is wrong with what the node made of it."""
        with Wire(self.node.port, seconds=ANSWER_SECONDS) as wire:
            if attack.established:
                wire.establish()
            wire.send(attack.payload)
            trouble = self._judge(attack, wire)
        self.echoes.append(echo(self.node.port, seconds=ECHO_SECONDS))
        assert self.node.process is not None
        if self.node.process.poll() is not None:
            return f"the node died\n{self.node.log()[-2000:]}"
        return trouble

    def _judge(self, attack: Attack, wire: Wire) -> str | None:
        if attack.fate is Fate.SURVIVED:
            return self._survived(attack, wire)
        if attack.fate is Fate.ENDED:
            while True:
                try:
                    kind, _ = wire.read()
                except TimeoutError:
                    return "the node neither answered nor hung up"
                if kind in {0, 7}:
                    return None
        try:
            status = wire.status()
        except TimeoutError:
            return "the node did not answer"
        if status == 0 and attack.content is not None:
            self.acknowledged.append(attack.content)
        ended = status is None
        allowed = {
            Fate.TAKEN: status == 0,
            Fate.REFUSED: not ended and 0xA000 <= (status or 0) or status == 0x0122,
            Fate.ENDED_OR_REFUSED: ended or status != 0,
        }
        if not ended:
            wire.release()
        return None if allowed[attack.fate] else f"answered {status}"

    def _survived(self, attack: Attack, wire: Wire) -> str | None:
        """Look at what comes at once, if anything does; then hang up."""
        wire.hurry()
        try:
            status = wire.status()
        except (TimeoutError, AssertionError):
            return None
        if status == 0 and attack.content is not None:
            self.acknowledged.append(attack.content)
        return None


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    root = tmp_path_factory.mktemp("siege")
    (root / "node").mkdir()
    pacs = StoringPacs()
    destination = pacs.start()
    node = TinyNode(root / "node", write_models(root / "models", tiny_thorax()), [destination])
    node.start()
    try:
        yield Siege(root=root, node=node, pacs=pacs)
    finally:
        node.kill()
        pacs.stop()


def test_there_are_more_than_500_and_no_name_twice() -> None:
    names = Counter(attack.name for attacks in _LISTS.values() for attack in attacks)
    assert len(names) > 500
    assert not [name for name, times in names.items() if times > 1]


@pytest.mark.parametrize("kind", _LISTS)
def test_the_node_stays_and_answers_after_each(siege: Siege, kind: str) -> None:
    wrong = {attack.name: siege.attack(attack) for attack in _LISTS[kind]}
    assert {name: what for name, what in wrong.items() if what} == {}
