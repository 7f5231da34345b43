"""The queue and the thread that send audit messages."""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rales.audit.messages import (
    RECORDING_STARTED,
    SECURITY_ALERT,
    Action,
    Alert,
    AuditEvent,
    AuditSource,
    EventOutcome,
    Participant,
    to_xml,
)
from rales.audit.transports import SyslogHeader, Transport
from rales.runtime.loglimit import LogLimiter

_LOG = logging.getLogger(__name__)

_NOTICE, _WARNING = 5, 4
"""Syslog severities (RFC 5424 table 2)."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_DRAIN_SECONDS = 5.0

BuildEvent = Callable[[], AuditEvent]
"""Builds an event in the thread of the trail: it may read the header of a file."""


class AuditTrail:
    """Queues events and sends them in order; a context manager that sends the queue at the end.

    If the queue is full, events are lost. The trail counts and logs them, and after the next
    message that is sent it sends a security alert with their number.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        source: AuditSource,
        reporter: Participant,
        header: SyslogHeader,
        capacity: int = 10_000,
    ) -> None:
        self._transport = transport
        self._source = source
        self._reporter = reporter
        self._header = header
        self._queue: queue.Queue[BuildEvent] = queue.Queue(capacity)
        self._lock = threading.Lock()
        self._lost = 0
        self._limiter = LogLimiter(_LOG)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadline = time.monotonic() + _DRAIN_SECONDS
        self._closing.set()
        self._thread.join(_DRAIN_SECONDS + _FIRST_PAUSE)
        if self._thread.is_alive():
            self._transport.cut()
            self._thread.join(_DRAIN_SECONDS)
        unsent = self._queue.qsize()
        if unsent:
            _LOG.warning("%d audit messages could not be sent before the end and are lost", unsent)

    @property
    def lost(self) -> int:
        """How many events were lost since the last alert about lost events."""
        return self._lost

    def submit(self, build: BuildEvent) -> None:
        """Queue an event; never waits and never raises."""
        try:
            self._queue.put_nowait(build)
        except queue.Full:
            with self._lock:
                self._lost += 1
                first = self._lost == 1
            if first:
                _LOG.error(
                    "the audit queue is full (%d messages): further audit messages are lost until "
                    "the receiver of audit.to accepts messages again",
                    self._queue.maxsize,
                )

    def _run(self) -> None:
        while True:
            try:
                build = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._closing.is_set():
                    break
                continue
            try:
                if not self._deliver(build()):
                    break
                self._report_lost()
            except Exception as error:  # noqa: BLE001 - the trail goes on after any error
                self._limiter.exception(
                    "an audit message is lost: it cannot be built or sent", error
                )
                with self._lock:
                    self._lost += 1
        self._transport.close()

    def _deliver(self, event: AuditEvent) -> bool:
        """Send one message, repeatedly if needed; return False if the end came first."""
        severity = _NOTICE if event.outcome is EventOutcome.SUCCESS else _WARNING
        text = to_xml(event, self._source)
        message = self._header.wrap(text, severity=severity, at=event.at)
        pause = _FIRST_PAUSE
        failed = False
        while True:
            try:
                self._transport.send(message)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise  # larger than a datagram: no attempt can succeed
                if not failed:
                    _LOG.warning("audit messages wait because they cannot be sent: %s", error)
                failed = True
                if time.monotonic() > self._deadline:
                    return False
                if self._closing.is_set():
                    time.sleep(_FIRST_PAUSE)
                else:
                    self._closing.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if failed:
                    _LOG.info("audit messages are sent again")
                return True

    def _report_lost(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        if not lost:
            return
        _LOG.error("%d audit messages were lost", lost)
        self._deliver(
            AuditEvent(
                event=SECURITY_ALERT,
                action=Action.EXECUTE,
                kind=RECORDING_STARTED,
                outcome=EventOutcome.SERIOUS_FAILURE,
                at=datetime.now(UTC),
                participants=(self._reporter,),
                alert=Alert(
                    node=self._reporter.address,
                    description=f"recording continues after {lost} audit messages were lost",
                ),
            )
        )
