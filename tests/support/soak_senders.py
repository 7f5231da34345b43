"""How series reach a node: whole, image by image, in halves, in any order, twice, late."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tiny_node import TinyNode, TinySeries, send_files, write_tiny_series

from phantom import Thorax

_REST = threading.Event()


class Manner(Enum):
    """How a series is sent."""

    WHOLE = "in one association"
    SHUFFLED = "in one association, in any order, some images twice"
    EACH = "in an association for each image, in any order"
    HALVES = "in two halves"
    GAP = "with slices from the middle late"
    RACE = "with the last slice as the rest settles"
    AFTERWARDS = "with slices after its result"


REVISED = frozenset({Manner.RACE, Manner.AFTERWARDS})
"""What came before may be taken for the whole."""
_SHARES = {
    Manner.WHOLE: 20,
    Manner.SHUFFLED: 15,
    Manner.EACH: 25,
    Manner.HALVES: 15,
    Manner.GAP: 10,
    Manner.RACE: 10,
    Manner.AFTERWARDS: 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A series that was taken whole, with its images as they were answered 0x0000."""

    uid: str
    images: frozenset[str]
    manner: Manner


@dataclass
class Caller:
    """Sends the images of one series; ``taken``: those that were answered 0x0000."""

    node: TinyNode
    settle_seconds: float
    taken: set[str] = field(default_factory=set)

    def until_taken(self, files: list[Path]) -> None:
        """Send files over one association, again and again until all were taken."""
        while not send_files(self.node.port, files, self.taken):
            _REST.wait(0.2)

    def pause(self, least: float, most: float, chance: random.Random) -> None:
        """Wait for a part of the quiet time."""
        _REST.wait(chance.uniform(least, most) * self.node.quiet_seconds)


@dataclass
class Sending:
    """Sends one series after another, each until it was taken whole; several threads share it.

    Attributes:
        manner: How all are sent; None: as chance has it.
        series: What was taken whole.
    """

    node: TinyNode
    thorax: Thorax
    count: int
    prefix: str
    seed: int
    settle_seconds: float = 0.2
    manner: Manner | None = None
    series: list[Taken] = field(default_factory=list)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, threads: int) -> None:
        """Begin to send."""
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for one in self._threads:
            one.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of it; tell whether it has come."""
        share = seconds / len(self._threads)
        for one in self._threads:
            one.join(share)
        return not any(one.is_alive() for one in self._threads)

    def _run(self) -> None:
        while (number := self._take()) is not None:
            self._send_one(number)

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= self.count:
                return None
            self._next += 1
            return self._next - 1

    def _send_one(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {self.prefix} {number}")  # noqa: S311 - no secret
        name = f"{self.prefix}{number:05d}"
        series = write_tiny_series(self.thorax, self.node.folder / "in", name)
        manner = self.manner or chance.choices(list(_SHARES), list(_SHARES.values()))[0]
        caller = Caller(self.node, self.settle_seconds)
        _WAYS[manner](caller, series, chance)
        images = frozenset(caller.taken)
        self.series.append(Taken(uid=series.uid, images=images, manner=manner))
        for path in series.files:
            path.unlink()


def _whole(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    del chance
    caller.until_taken(series.files)


def _shuffled(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    files = series.files + chance.sample(series.files, 5)
    chance.shuffle(files)
    caller.until_taken(files)


def _each(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    files = list(series.files)
    chance.shuffle(files)
    for file in files:
        caller.until_taken([file])
        caller.pause(0.0, 0.1, chance)


def _halves(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    middle = len(series.files) // 2
    files = list(series.files)
    if chance.random() < 0.5:
        chance.shuffle(files)
    caller.until_taken(files[:middle])
    caller.pause(0.05, 0.5, chance)
    caller.until_taken(files[middle:])


def _gap(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    middle = chance.randrange(10, len(series.files) - 10)
    late = series.files[middle : middle + chance.randint(1, 3)]
    caller.until_taken([one for one in series.files if one not in late])
    caller.pause(0.05, 0.4, chance)
    caller.until_taken(late)


def _race(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    caller.until_taken(series.files[:-1])
    _REST.wait(max(0.0, caller.settle_seconds + chance.uniform(-0.05, 0.1)))
    caller.until_taken(series.files[-1:])


def _afterwards(caller: Caller, series: TinySeries, chance: random.Random) -> None:
    late = series.files[-chance.randint(1, 5) :]
    caller.until_taken([one for one in series.files if one not in late])
    caller.node.ended(series.uid, deadline=600)
    caller.until_taken(late)


_WAYS: dict[Manner, Callable[[Caller, TinySeries, random.Random], None]] = {
    Manner.WHOLE: _whole,
    Manner.SHUFFLED: _shuffled,
    Manner.EACH: _each,
    Manner.HALVES: _halves,
    Manner.GAP: _gap,
    Manner.RACE: _race,
    Manner.AFTERWARDS: _afterwards,
}
