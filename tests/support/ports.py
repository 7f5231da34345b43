"""TCP ports for programs that cannot be told to choose one."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _COUNT = 15_000, 1_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
_CANDIDATES = itertools.cycle(
    _FIRST + _COUNT * _WORKER + (os.getpid() + offset) % _COUNT for offset in range(_COUNT)
)


def free_port() -> int:
    """Return a port on the loopback interface on which nothing listens.

    Each pytest worker has a range of its own, below the ports that the system gives to clients:
    nothing else takes the port before the program listens on it.
    """
    for port in _CANDIDATES:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("the candidates never end")
