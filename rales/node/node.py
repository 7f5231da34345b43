"""The running node: receiver, assembly, analysis and delivery over one state file."""

from __future__ import annotations

import fcntl
import logging
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from chestct.errors import ConfigError
from dicom_out.network.allowance import Conversations
from dicom_out.network.commitment import ReportHandler, request_commitment
from dicom_out.network.recipients import send_to
from rales.analysis.archive import archive_lookup
from rales.analysis.pipeline import InferenceFacts
from rales.analysis.settings import settings_of
from rales.audit.hooks import AuditedSender, AuditHooks
from rales.audit.opening import audit_trail
from rales.config.peers import admission_of, destinations_of, server_tls, warn_if_commitment_blocked
from rales.config.sections import Config
from rales.config.tls import ServerTls
from rales.node.clockwatch import ClockWatch, resumed_clock
from rales.node.housekeeping import HousekeepingWorker
from rales.node.refusals import RefusalCounter
from rales.runtime.allocator import trim_memory
from rales.runtime.clock import NodeClock
from rales.runtime.loops import Loop
from rales.runtime.process import WorkerProcess
from rales.runtime.systemd import Notifier, Watchdog, watchdog_seconds
from rales.state.layout import Layout
from rales.state.store import (
    CommitmentStore,
    Database,
    DeliveryStore,
    InstanceStore,
    JobStore,
    NotificationStore,
    RetentionStore,
)
from rales.state.store.clock import ClockStore
from rales.state.store.facts import NodeFacts
from rales.state.store.refusals import RefusalStore
from rales.steps.analyse import AnalysisWorker
from rales.steps.archive_counts import archive_counts_of
from rales.steps.assemble import AssemblyWorker
from rales.steps.backoff import BackOff
from rales.steps.commit import CommitmentWorker
from rales.steps.completeness import CompletionPolicy
from rales.steps.deliver import DeliveryWorker
from rales.steps.dispatch import Sender
from rales.steps.notify.targets import targets_of
from rales.steps.notify.worker import NotificationWorker
from rales.steps.retain import RetentionWorker
from scp.server import RunningScp, ScpSettings, start
from scp.spool import Spool
from scp.traffic import Traffic

_LOG = logging.getLogger(__name__)

_INTERRUPTIONS = 10
"""So often may a kill of the node fall into the analysis of one series."""
_TALK_SECONDS = 3.0
"""From the stop on: how long a conversation with another system may go on; then it is cut off."""
_FINISH_SECONDS = 18.0
"""From the stop on: how long a series in hand may take to end by itself."""
_PARK_SECONDS = 24.0
"""From the stop on: after it, what is parked is not waited for. systemd is promised 30."""
_JITTER = 0.25
_GIGABYTE = 1e9
_MEGABYTE = 10**6
_KILOBYTE = 10**3


def _close_to_others(folder: Path) -> None:
    """Let nobody but this node's user into the data folder; it holds images and names."""
    if not stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return
    try:
        folder.chmod(0o700)
        _LOG.warning("%s was open to other users; its mode is 0700 now", folder)
    except PermissionError:
        _LOG.warning("%s is open to other users, and its owner is another: chmod 700 it", folder)


class Node:
    """Everything that ``rales serve`` runs; a context manager.

    Raises:
        ConfigError: The data folder cannot be used, another node uses it, or the port cannot
            be bound.
        ModelError: The models cannot be loaded.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._layout = Layout(config.node.data_dir)
        self._stack = ExitStack()
        self._loops: list[Loop] = []
        self._scp: RunningScp | None = None
        self._audit: AuditHooks | None = None
        self._clock = NodeClock()
        self._traffic = Traffic(window_seconds=config.completion.quiet_seconds)
        self._tls: ServerTls | None = None
        self._notify = Notifier()
        self._watchdog = Watchdog(self._notify, limit_seconds=watchdog_seconds())
        self._conversations = Conversations()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._lock(stack)
            self._begin_audit(stack)
            database = Database(self._layout.state)
            stack.callback(database.close)
            self._start(database, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        _LOG.info("stopped")

    @property
    def port(self) -> int:
        """The port that the receiver is bound to."""
        assert self._scp is not None
        return self._scp.port

    def reload(self) -> None:
        """Read the certificates again. Those for destinations are read for every call."""
        if self._tls is not None:
            self._tls.reload()

    def _lock(self, stack: ExitStack) -> None:
        """Keep a second node out of the data folder."""
        try:
            self._layout.data_dir.mkdir(parents=True, exist_ok=True)
            _close_to_others(self._layout.data_dir)
            file = stack.enter_context(self._layout.lock.open("w"))
        except OSError as error:
            raise ConfigError(
                f"node.data_dir {self._layout.data_dir} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another node is using {self._layout.data_dir}") from error

    def _begin_audit(self, stack: ExitStack) -> None:
        """Open the trail before what it tells of, so that it is closed after all of that."""
        self._audit = stack.enter_context(
            audit_trail(self._config.audit, self._config.node.ae_title)
        )
        if self._audit:
            self._audit.started()
            stack.callback(self._audit.stopped)

    def _start(self, database: Database, stack: ExitStack) -> None:
        config = self._config
        jobs, deliveries = JobStore(database), DeliveryStore(database)
        instances = InstanceStore(database, on_change=self._wake)
        spool = Spool(
            self._layout.spool,
            reserve=int(config.node.minimum_free_gb * _GIGABYTE),
            tidy=False,  # housekeeping does it while the node serves
        )
        clock_store = ClockStore(database)
        self._clock = resumed_clock(clock_store)
        notification = self._notification_worker(database, jobs, instances)
        jobs.leave_out(self._layout.results)
        interrupted = jobs.recover(interruptions=_INTERRUPTIONS, at=self._clock.now())
        if interrupted:
            _LOG.warning("%d analyses were interrupted by the last stop; they go on", interrupted)
        analysis = self._analysis_workers(jobs, instances, stack)
        delivery = self._delivery_worker(jobs, deliveries)
        commitment = self._commitment_worker(jobs, CommitmentStore(database))
        policy = CompletionPolicy(
            settle_seconds=config.completion.settle_seconds,
            quiet_seconds=config.completion.quiet_seconds,
            archive_wait_seconds=config.completion.archive_wait_seconds,
        )
        counts = archive_counts_of(config, on_change=self._wake, under_way=self._conversations)
        assembly = AssemblyWorker(
            jobs=jobs,
            instances=instances,
            policy=policy,
            moment=self._clock.moment,
            traffic=self._traffic,
            archive=counts,
        )
        refusals = RefusalCounter(RefusalStore(database), self._clock.now)
        stack.callback(refusals.close)
        timed = partial(Loop, clock=self._clock.now)
        self._loops = [
            timed("clock", ClockWatch(self._clock, clock_store).step),
            timed("assembly", assembly.step, on_beat=self._watchdog.drive_watchdog("assembly")),
            *([timed("archive-counts", counts.step)] if counts else []),
            *(timed(worker.name, worker.step, on_beat=worker.on_alive) for worker in analysis),
            *(
                timed(name, step)
                for worker in (delivery, commitment, notification)
                for name, step in worker.steps().items()
            ),
            timed("refusals", refusals.step),
            timed("retention", self._retention_worker(database).step),
            timed("memory", trim_memory),
            timed("housekeeping", self._housekeeping_worker(database, instances, spool).step),
        ]
        inference = analysis[0].warm_up()
        _LOG.info("inference on %s", inference.provider)
        self._scp = stack.enter_context(
            self._receiver(spool, instances, commitment.on_report, refusals)
        )
        self._clock.begin_to_listen()
        if self._audit:
            self._audit.attached()
            stack.callback(self._audit.detached)
        self._write_facts(database, inference)
        stack.callback(self._stop, self._scp, analysis, (delivery, commitment, notification))
        self._notify("READY=1")
        for loop in self._loops:
            loop.start()
        _LOG.info("%s listens on %s:%d", config.node.ae_title, config.node.host, self.port)

    def _housekeeping_worker(
        self, database: Database, instances: InstanceStore, spool: Spool
    ) -> HousekeepingWorker:
        days = self._config.retention.days
        facts = NodeFacts(database)
        facts.write({"files": "being checked"})
        return HousekeepingWorker(
            database=database,
            instances=instances,
            spool=spool,
            layout=self._layout,
            keep=timedelta(days=days) if days else None,
            on_checked=lambda told: facts.write({"files": told}),
        )

    def _analysis_workers(
        self, jobs: JobStore, instances: InstanceStore, stack: ExitStack
    ) -> Sequence[AnalysisWorker]:
        analysis = self._config.analysis
        settings = settings_of(self._config)
        workers = []
        for number in range(analysis.workers):
            name = f"analysis-{number}"
            on_alive = self._watchdog.watch_loop(name)
            worker = AnalysisWorker(
                name=name,
                on_alive=on_alive,
                process=WorkerProcess(
                    time_limit=analysis.time_limit_seconds,
                    memory_limit=int(analysis.memory_limit_gb * _GIGABYTE),
                    on_alive=on_alive,
                ),
                jobs=jobs,
                instances=instances,
                settings=settings,
                results_dir=self._layout.results,
                attempts=analysis.attempts,
                clock=self._clock.now,
                on_composed=self._wake,
                find_prior_reports=archive_lookup(self._config, self._conversations),
            )
            stack.callback(worker.close)
            workers.append(worker)
        return workers

    def _delivery_worker(self, jobs: JobStore, deliveries: DeliveryStore) -> DeliveryWorker:
        delivery = self._config.delivery
        sender: Sender = partial(
            send_to,
            calling_ae=self._config.node.ae_title,
            timeout_seconds=delivery.timeout_seconds,
            slowest=delivery.slowest_kilobytes_per_second * _KILOBYTE,
            under_way=self._conversations,
        )
        return DeliveryWorker(
            jobs=jobs,
            deliveries=deliveries,
            destinations=destinations_of(self._config),
            sender=AuditedSender(sender, self._audit) if self._audit else sender,
            back_off=self._back_off(),
            clock=self._clock.now,
        )

    def _notification_worker(
        self, database: Database, jobs: JobStore, instances: InstanceStore
    ) -> NotificationWorker:
        """Return the worker, with every end of a job from now on written down for its targets."""
        worker = NotificationWorker(
            jobs=jobs,
            notifications=NotificationStore(database),
            targets=targets_of(
                self._config, instances, DeliveryStore(database), self._conversations
            ),
            back_off=self._back_off(),
            clock=self._clock.now,
        )
        worker.begin()
        return worker

    def _commitment_worker(self, jobs: JobStore, commitments: CommitmentStore) -> CommitmentWorker:
        delivery = self._config.delivery
        return CommitmentWorker(
            jobs=jobs,
            commitments=commitments,
            destinations=destinations_of(self._config),
            requester=partial(
                request_commitment,
                calling_ae=self._config.node.ae_title,
                timeout_seconds=delivery.timeout_seconds,
                under_way=self._conversations,
            ),
            back_off=self._back_off(),
            timeout=timedelta(seconds=delivery.commitment_timeout_seconds),
            clock=self._clock.now,
        )

    def _retention_worker(self, database: Database) -> RetentionWorker:
        limits = self._config.retention
        return RetentionWorker(
            store=RetentionStore(database),
            results_dir=self._layout.results,
            longest=timedelta(days=limits.days) if limits.days else None,
            largest=int(limits.gigabytes * _GIGABYTE) if limits.gigabytes else None,
            skipped_since=self._clock.skipped_since,
        )

    def _back_off(self) -> BackOff:
        delivery = self._config.delivery
        return BackOff(
            first=timedelta(seconds=delivery.first_retry_seconds),
            longest=timedelta(seconds=delivery.longest_retry_seconds),
            give_up_after=timedelta(hours=delivery.give_up_after_hours),
            jitter=_JITTER,
            skipped_since=self._clock.skipped_since,
        )

    def _receiver(
        self,
        spool: Spool,
        instances: InstanceStore,
        on_report: ReportHandler,
        refusals: RefusalCounter,
    ) -> RunningScp:
        config = self._config
        settings = ScpSettings(
            ae_title=config.node.ae_title,
            host=config.node.host,
            port=config.node.port,
            admission=admission_of(config),
            maximum_pdu_size=config.network.maximum_pdu_size,
            maximum_associations=config.network.maximum_associations,
            maximum_instance=config.network.maximum_instance_mb * _MEGABYTE,
            maximum_arriving=_MEGABYTE
            * max(config.network.maximum_arriving_mb, config.network.maximum_instance_mb),
            network_timeout=config.network.timeout_seconds,
        )
        asks = any(one.commitment for one in config.destinations)
        warn_if_commitment_blocked(config)
        self._tls = server_tls(config.tls)
        try:
            return start(
                settings,
                spool=spool,
                intake=instances,
                clock=self._clock.now,
                on_commitment_report=on_report if asks else None,
                witness=self._audit,
                doorkeeper=refusals,
                traffic=self._traffic,
                tls=self._tls,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {config.node.host}:{config.node.port}: "
                f"{error.strerror or error}. "
                "Is another node running? node.port chooses another port."
            ) from error

    def _write_facts(self, database: Database, inference: InferenceFacts) -> None:
        models = ", ".join(f"{model.name} {model.version}" for model in inference.models)
        NodeFacts(database).write(
            {
                "ae_title": self._config.node.ae_title,
                "address": f"{self._config.node.host}:{self.port}",
                "started": self._clock.now().isoformat(timespec="seconds"),
                "version": version("rales"),
                "provider": inference.provider,
                "models": models,
            }
        )

    def _wake(self) -> None:
        for loop in self._loops:
            loop.wake()

    def _stop(
        self,
        scp: RunningScp,
        analysis: Sequence[AnalysisWorker],
        senders: Sequence[DeliveryWorker | CommitmentWorker | NotificationWorker],
    ) -> None:
        """Take nothing new, let finish what soon ends, park the rest; within 30 seconds."""
        began = time.monotonic()
        self._notify("STOPPING=1")
        _LOG.info("stopping")
        cut = threading.Timer(_TALK_SECONDS, self._conversations.cut, args=["the node stops"])
        cut.daemon = True
        cut.start()
        for sender in senders:
            sender.park()
        for loop in self._loops:
            loop.ask_to_stop()
        scp.stop()
        self._join_loops(began + _FINISH_SECONDS)
        for worker in analysis:
            worker.park()
        if not self._join_loops(began + _PARK_SECONDS):
            _LOG.warning("a loop is still busy; what it does is taken up at the next start")
        cut.cancel()

    def _join_loops(self, end: float) -> bool:
        return not [loop for loop in self._loops if not loop.join(end - time.monotonic())]
