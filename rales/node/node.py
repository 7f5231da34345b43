"""The running node: starts the receiver and the loops over one state file, and stops them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Self

from chestct.errors import ConfigError
from dicom_out.network.allowance import Conversations
from dicom_out.network.commitment import ReportHandler
from rales.analysis.pipeline import InferenceFacts
from rales.audit.hooks import AuditHooks
from rales.audit.opening import audit_trail
from rales.config.peers import admission_of, server_tls, warn_if_commitment_blocked
from rales.config.sections import Config
from rales.config.tls import ServerTls
from rales.node.clockwatch import ClockWatch, resumed_clock
from rales.node.cut_off import record_cut_off
from rales.node.data_dir import exclusive_data_dir
from rales.node.refusals import RefusalCounter
from rales.node.workers import (
    GIGABYTE,
    NodeContext,
    analysis_workers,
    assembly_worker,
    commitment_worker,
    delivery_worker,
    housekeeping_worker,
    notification_worker,
    retention_worker,
)
from rales.runtime.allocator import trim_memory
from rales.runtime.loops import Loop
from rales.runtime.systemd import Notifier, Watchdog, watchdog_seconds
from rales.state.layout import Layout
from rales.state.store import Database, GroupedIntake
from rales.state.store.clock import ClockStore
from rales.state.store.facts import NodeFacts
from rales.state.store.refusals import RefusalStore
from rales.steps.analyse import AnalysisWorker
from rales.steps.archive_counts import archive_counts_of
from rales.steps.commit import CommitmentWorker
from rales.steps.deliver import DeliveryWorker
from rales.steps.notify.worker import NotificationWorker
from scp.ports import Intake
from scp.server import RunningScp, ScpSettings, start
from scp.spool import Spool
from scp.traffic import Traffic

_LOG = logging.getLogger(__name__)

_INTERRUPTIONS = 10
"""Give up on a series after this many node crashes during its analysis."""
_TALK_SECONDS = 3.0
"""Cut off every conversation with another system this long after a stop begins."""
_FINISH_SECONDS = 18.0
"""Interrupt every analysis this long after a stop begins."""
_PARK_SECONDS = 24.0
"""Stop waiting for loops this long after a stop begins. systemd waits 30 seconds."""
_MEGABYTE = 10**6


class Node:
    """The node that ``rales serve`` runs; a context manager.

    Raises:
        ConfigError: The data directory cannot be used, another node uses it, or the port cannot
            be bound.
        ModelError: The models cannot be loaded.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = ExitStack()
        self._loops: list[Loop] = []
        self._scp: RunningScp | None = None
        self._traffic = Traffic(window_seconds=config.completion.quiet_seconds)
        self._tls: ServerTls | None = None
        self._notify = Notifier()
        self._watchdog = Watchdog(self._notify, limit_seconds=watchdog_seconds())
        self._conversations = Conversations()

    def __enter__(self) -> Self:
        layout = Layout(self._config.node.data_dir)
        with ExitStack() as stack:
            stack.enter_context(exclusive_data_dir(layout))
            audit = self._begin_audit(stack)
            database = Database(layout.state)
            stack.callback(database.close)
            record_cut_off(database, layout, since=ClockStore(database).seen())
            self._start(database, audit, stack)
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
        """Read the receiver's certificates again; each call to a destination reads its own."""
        if self._tls is not None:
            self._tls.reload()

    def _begin_audit(self, stack: ExitStack) -> AuditHooks | None:
        """Open the audit trail first, so that it closes after everything that it reports on."""
        node = self._config.node
        audit = stack.enter_context(audit_trail(self._config.audit, node.ae_title))
        if audit:
            audit.started()
            stack.callback(audit.stopped)
        return audit

    def _start(self, database: Database, audit: AuditHooks | None, stack: ExitStack) -> None:
        clock = resumed_clock(ClockStore(database))
        node = NodeContext(
            config=self._config,
            database=database,
            clock=clock,
            conversations=self._conversations,
            wake=self._wake,
        )
        spool = Spool(
            node.layout.spool,
            reserve=int(self._config.node.minimum_free_gb * GIGABYTE),
            tidy=False,  # housekeeping does it while the node serves
        )
        notification = notification_worker(node)  # before the recovery, which may end jobs
        _recover(node)
        analysis = list(analysis_workers(node, self._watchdog))
        for worker in analysis:
            stack.callback(worker.close)
        commitment = commitment_worker(node)
        senders = (delivery_worker(node, audit), commitment, notification)
        refusals = stack.enter_context(closing(RefusalCounter(RefusalStore(database), clock.now)))
        self._loops = self._build_loops(node, spool, refusals, analysis, senders)
        intake = stack.enter_context(closing(GroupedIntake(database, node.instances)))
        inference = analysis[0].warm_up()
        self._scp = stack.enter_context(
            self._receiver(node, spool, commitment.on_report, refusals, audit, intake=intake)
        )
        clock.begin_to_listen()
        if audit:
            audit.attached()
            stack.callback(audit.detached)
        self._write_facts(node, inference)
        stack.callback(self._stop, self._scp, analysis, senders)
        self._notify("READY=1")
        for loop in self._loops:
            loop.start()
        settings = node.config.node
        _LOG.info("%s listens on %s:%d", settings.ae_title, settings.host, self.port)

    def _build_loops(
        self,
        node: NodeContext,
        spool: Spool,
        refusals: RefusalCounter,
        analysis: Sequence[AnalysisWorker],
        senders: Sequence[DeliveryWorker | CommitmentWorker | NotificationWorker],
    ) -> list[Loop]:
        """Return the loops: one thread for each, so that a slow one delays no other."""
        counts = archive_counts_of(
            self._config, on_change=self._wake, under_way=self._conversations
        )
        assembly = assembly_worker(node, self._traffic, counts)
        on_beat = self._watchdog.drive_watchdog("assembly")
        loop = partial(Loop, clock=node.clock.now)
        return [
            loop("clock", ClockWatch(node.clock, ClockStore(node.database)).step),
            loop("assembly", assembly.step, on_beat=on_beat),
            *([loop("archive-counts", counts.step)] if counts else []),
            *(loop(worker.name, worker.step, on_beat=worker.on_alive) for worker in analysis),
            *(loop(name, step) for sender in senders for name, step in sender.steps().items()),
            loop("refusals", refusals.step),
            loop("retention", retention_worker(node).step),
            loop("memory", trim_memory),
            loop("housekeeping", housekeeping_worker(node, spool).step),
        ]

    def _receiver(
        self,
        node: NodeContext,
        spool: Spool,
        on_report: ReportHandler,
        refusals: RefusalCounter,
        audit: AuditHooks | None,
        *,
        intake: Intake,
    ) -> RunningScp:
        config = self._config
        commits = any(destination.commitment for destination in config.destinations)
        warn_if_commitment_blocked(config)
        self._tls = server_tls(config.tls)
        try:
            return start(
                _receiver_settings(config),
                spool=spool,
                intake=intake,
                clock=node.clock.now,
                on_commitment_report=on_report if commits else None,
                audit=audit,
                refusals=refusals,
                traffic=self._traffic,
                tls=self._tls,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {config.node.host}:{config.node.port}: "
                f"{error.strerror or error}. "
                "Is another node running? node.port chooses another port."
            ) from error

    def _write_facts(self, node: NodeContext, inference: InferenceFacts) -> None:
        log = _LOG.warning if inference.refused else _LOG.info
        log("inference on %s", inference.summary)
        models = ", ".join(f"{model.name} {model.version}" for model in inference.models)
        NodeFacts(node.database).write(
            {
                "ae_title": self._config.node.ae_title,
                "address": f"{self._config.node.host}:{self.port}",
                "started": node.clock.now().isoformat(timespec="seconds"),
                "version": version("rales"),
                "provider": inference.summary,
                "models": models,
                "self_test": "; ".join(inference.self_test),
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
        """Stop within 30 seconds: begin nothing, let short work end, interrupt the rest."""
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
            _LOG.warning("a loop is still busy; the next start takes its work up again")
        cut.cancel()

    def _join_loops(self, end: float) -> bool:
        return not [loop for loop in self._loops if not loop.join(end - time.monotonic())]


def _recover(node: NodeContext) -> None:
    """Take up the jobs that the last stop interrupted."""
    node.jobs.leave_out(node.layout.results)
    interrupted = node.jobs.recover(interruptions=_INTERRUPTIONS, at=node.clock.now())
    if interrupted:
        _LOG.warning("the last stop interrupted %d analyses; they are repeated", interrupted)


def _receiver_settings(config: Config) -> ScpSettings:
    network = config.network
    return ScpSettings(
        ae_title=config.node.ae_title,
        host=config.node.host,
        port=config.node.port,
        admission=admission_of(config),
        maximum_pdu_size=network.maximum_pdu_size,
        maximum_associations=network.maximum_associations,
        maximum_instance=network.maximum_instance_mb * _MEGABYTE,
        maximum_arriving=_MEGABYTE * max(network.maximum_arriving_mb, network.maximum_instance_mb),
        network_timeout=network.timeout_seconds,
    )
