"""A spawned process that runs one call at a time and can be ended at any moment.

The standard library's ``ProcessPoolExecutor`` cannot end a call that hangs. This process has a
time limit for each call and a memory limit, and reports how it ended.
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
_NICENESS = 10
"""An analysis leaves the processor to the receiver, which needs it briefly and often."""
_OOM_SCORE = "800"
"""From -1000 to 1000: out of memory, the kernel ends the analysis and not the receiver."""


class Worker(Protocol):
    """Runs calls for an analysis loop; :class:`WorkerProcess` is the real one."""

    def call(self, function: Callable[..., _Answer], /, *arguments: Any) -> _Answer:
        """Return the result of the function, or raise its exception."""

    def stop(self) -> None:
        """End a running call, from another thread; no further call is accepted."""

    def close(self) -> None:
        """Release the resources of the worker."""


class WorkerProcess:
    """Starts its process with the first call, and a new process after a crash.

    The process is spawned, not forked: forking a process with network threads is not safe.

    Attributes:
        time_limit: Seconds that one call may take.
        memory_limit: Bytes of private memory that the process may have; 0 for no limit.
            RLIMIT_DATA and not RLIMIT_AS: libraries reserve gigabytes of addresses.
        on_alive: Called about twice a second during a call.
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
        """The process ID; None without a process."""
        return self._process.pid if self._process else None

    def call(self, function: Callable[..., _Answer], /, *arguments: Any) -> _Answer:
        """Run ``function(*arguments)`` in the process; its exceptions are raised here.

        Raises:
            AnalysisCrashed: The process died.
            AnalysisHung: The call exceeded the time limit; the process was ended.
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
            self._end()  # memory that it did not free would be missing for the next series
        raise value

    def stop(self) -> None:
        """End a running call, from another thread; no further call is accepted."""
        self._stopped.set()

    def close(self) -> None:
        """End the process: an idle process ends by itself, a busy process is killed."""
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
                raise AnalysisHung(
                    f"the analysis exceeded its time limit of {self._time_limit:g} s and was ended"
                )

    def _send(self, connection: Connection, call: object) -> None:
        """Send a call; a process that does not read it within the time limit is ended."""
        trouble: list[BaseException] = []

        def send() -> None:
            try:
                connection.send(call)
            except Exception as error:  # noqa: BLE001 - raised below, in the thread of the caller
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
            self._process.kill()  # this breaks the pipe, which ends the sending thread
        sending.join()
        self._end()
        if self._stopped.is_set():
            raise AnalysisStopped("the node is stopping")
        raise AnalysisHung(
            f"the analysis process read no call within {self._time_limit:g} s and was ended"
        )

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
        return "it closed its connection"
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name
    return f"{name}: perhaps out of memory" if -code == signal.SIGKILL else name


def _serve(connection: Connection, memory_limit: int) -> None:
    """Run calls until the node closes the connection (runs in the process)."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(_NICENESS)  # first: threads inherit it from the thread that starts them
    # The node handles signals to the process group, and ends this process itself.
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
    """Return a pickle: True and the result, or False and the exception."""
    try:
        return pickle.dumps((True, function(*arguments)))
    except Exception as error:  # noqa: BLE001 - raised in the node
        return _pickled_error(error)


def _pickled_error(error: Exception) -> bytes:
    """Return the pickle of an exception; of an exception that cannot be unpickled, its type."""
    try:
        whole = pickle.dumps((False, error))
        pickle.loads(whole)  # noqa: S301 - pickled in the line above
    except Exception:  # noqa: BLE001 - an exception of a library may need arguments, or hold a file
        return pickle.dumps((False, RuntimeError(f"the call raised {type(error).__name__}")))
    return whole


def _follow_parent() -> None:
    """End as soon as the node ends: a new node may already be analysing the same series."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
