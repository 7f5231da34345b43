"""One spawned process that answers calls, one at a time, and that can be ended at any moment.

The standard library's ``ProcessPoolExecutor`` cannot end a call that hangs. This one gives
each call a time limit, gives the process a memory limit, and knows how it ended.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chestct.errors import AnalysisCrashed, AnalysisHung, AnalysisStopped

_Answer = TypeVar("_Answer")
_POLL_SECONDS = 0.5
_CLOSE_SECONDS = 5.0
_OOM_SCORE = "800"
"""Of -1000 to 1000: the kernel that runs out of memory ends the analysis, not the receiver."""


class Worker(Protocol):
    """Runs calls for an analysis loop; :class:`WorkerProcess` is the real one."""

    def call(self, function: Callable[..., _Answer], /, *arguments: Any) -> _Answer:
        """Return the function's answer, or raise what it raised."""

    def stop(self) -> None:
        """End a call that is under way, from another thread; no further one is taken."""

    def close(self) -> None:
        """Give back what the worker holds."""


class WorkerProcess:
    """Starts its process with the first call, and a new one after it was lost.

    Spawned, not forked: a fork of a process with network threads is not safe.

    Attributes:
        time_limit: Seconds that one call may take.
        memory_limit: Bytes of private memory that the process may have; 0 for no limit.
            RLIMIT_DATA and not RLIMIT_AS: libraries reserve addresses by the gigabyte.
        on_alive: Called about twice a second while a call is waited for.
    """

    def __init__(
        self,
        *,
        time_limit: float,
        memory_limit: int = 0,
        on_alive: Callable[[], object] = lambda: None,
    ) -> None:
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._on_alive = on_alive
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._stopped = threading.Event()

    @property
    def pid(self) -> int | None:
        """The number of the process, if there is one."""
        return self._process.pid if self._process else None

    def call(self, function: Callable[..., _Answer], /, *arguments: Any) -> _Answer:
        """Have ``function(*arguments)`` done there; whatever it raises is raised here.

        Raises:
            AnalysisCrashed: The process died.
            AnalysisHung: The time limit passed; the process was ended.
            AnalysisStopped: :meth:`stop` was called.
        """
        connection = self._started()
        try:
            self._send(connection, (function, arguments))
            answered, value = self._answer(connection)
        except (EOFError, OSError) as error:
            raise self._crashed() from error
        if answered:
            answer: _Answer = value
            return answer
        if isinstance(value, MemoryError):
            self._end()  # what it could not free would be missing to the next series
        raise value

    def stop(self) -> None:
        """End a call that is under way, from another thread; no further one is taken."""
        self._stopped.set()

    def close(self) -> None:
        """End the process: an idle one by itself, a busy one at once."""
        self._stopped.set()
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(_CLOSE_SECONDS)
        self._end()

    def _started(self) -> Connection:
        if self._stopped.is_set():
            raise AnalysisStopped("the node is stopping")
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._end()
            self._connection, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=_serve, args=(theirs, self._memory_limit), name="rales-analysis", daemon=True
            )
            self._process.start()
            theirs.close()
        return self._connection

    def _answer(self, connection: Connection) -> tuple[bool, Any]:
        assert self._process is not None
        deadline = time.monotonic() + self._time_limit
        while True:
            self._on_alive()
            left = deadline - time.monotonic()
            ready = wait([connection, self._process.sentinel], max(0.0, min(_POLL_SECONDS, left)))
            if connection in ready:
                answer: tuple[bool, Any] = connection.recv()
                return answer
            if ready:
                raise EOFError
            if self._stopped.is_set():
                self._end()
                raise AnalysisStopped("the node is stopping")
            if left <= 0:
                self._end()
                raise AnalysisHung(f"no answer within {self._time_limit:g} s: ended")

    def _send(self, connection: Connection, call: object) -> None:
        """Send a call; a process that does not read it is ended at the time limit."""
        trouble: list[BaseException] = []

        def send() -> None:
            try:
                connection.send(call)
            except Exception as error:  # noqa: BLE001 - it is raised where the call was asked for
                trouble.append(error)

        sending = threading.Thread(target=send, name="rales-analysis-call", daemon=True)
        sending.start()
        deadline = time.monotonic() + self._time_limit
        while sending.is_alive():
            sending.join(_POLL_SECONDS)
            self._on_alive()
            if self._stopped.is_set() or time.monotonic() > deadline:
                break
        if not sending.is_alive():
            if trouble:
                raise trouble[0]
            return
        if self._process is not None:
            self._process.kill()  # that breaks the pipe, and ends the thread that writes to it
        sending.join()
        self._end()
        if self._stopped.is_set():
            raise AnalysisStopped("the node is stopping")
        raise AnalysisHung(f"the process took no call within {self._time_limit:g} s: ended")

    def _crashed(self) -> AnalysisCrashed:
        process = self._process
        if process is not None:
            process.join(_CLOSE_SECONDS)
        code = process.exitcode if process else None
        self._end()
        return AnalysisCrashed(f"the analysis process died ({_how(code)})")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _how(code: int | None) -> str:
    if code is None:
        return "it closed its end"
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name
    return f"{name}: perhaps out of memory" if -code == signal.SIGKILL else name


def _serve(connection: Connection, memory_limit: int) -> None:
    """Answer calls until the other end is closed (runs in the process)."""
    # Signals to the whole group are the node's to answer: it ends this process itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    if memory_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, arguments = connection.recv()
            connection.send_bytes(_attempt(function, arguments))


def _attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """Return a pickle of whether there is an answer, and the answer or what was raised."""
    try:
        return pickle.dumps((True, function(*arguments)))
    except Exception as error:  # noqa: BLE001 - it is raised on the other side
        return _crossing(error)


def _crossing(error: Exception) -> bytes:
    """Return the pickle of an error; of one that does not come out of it, its type."""
    try:
        whole = pickle.dumps((False, error))
        pickle.loads(whole)  # noqa: S301 - what was just made
    except Exception:  # noqa: BLE001 - an error of a library may need arguments, or hold a file
        return pickle.dumps((False, RuntimeError(f"it raised {type(error).__name__}")))
    return whole


def _follow_parent() -> None:
    """End at once with the node: its successor may be analysing the same series already."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
