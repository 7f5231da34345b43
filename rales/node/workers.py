"""Builds the workers of a node from its configuration: one for each kind of loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from dicom_out.network.allowance import Conversations
from dicom_out.network.commitment import request_commitment
from dicom_out.network.recipients import send_to
from rales.analysis.archive import archive_lookup
from rales.analysis.settings import settings_of
from rales.audit.hooks import AuditedSender, AuditHooks
from rales.config.peers import destinations_of
from rales.config.sections import AnalysisConfig, Config
from rales.node.housekeeping import HousekeepingWorker
from rales.runtime.clock import NodeClock
from rales.runtime.process import WorkerProcess
from rales.runtime.systemd import Watchdog
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
from rales.state.store.facts import NodeFacts
from rales.steps.analyse import AnalysisWorker
from rales.steps.archive_counts import ArchiveCounts
from rales.steps.assemble import AssemblyWorker
from rales.steps.backoff import BackOff
from rales.steps.commit import CommitmentWorker
from rales.steps.completeness import CompletionPolicy
from rales.steps.deliver import DeliveryWorker
from rales.steps.dispatch import Sender
from rales.steps.notify.targets import targets_of
from rales.steps.notify.worker import NotificationWorker
from rales.steps.retain import RetentionWorker
from scp.spool import Spool
from scp.traffic import Traffic

GIGABYTE = 1e9
_KILOBYTE = 10**3
_JITTER = 0.25
_READ_AHEAD = 1 << 30
"""Bytes of HU: 2,048 slices of 512 by 512 pixels."""
_READ_AHEAD_PART = 8
"""Images read ahead take at most this part of the memory of the analysis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """What the workers of one node share.

    Attributes:
        wake: Wakes every loop, after an event that may give it work.
    """

    config: Config
    database: Database
    clock: NodeClock
    conversations: Conversations
    wake: Callable[[], None]

    @property
    def layout(self) -> Layout:
        """The paths inside the data directory."""
        return Layout(self.config.node.data_dir)

    @property
    def jobs(self) -> JobStore:
        """The jobs of the state file."""
        return JobStore(self.database)

    @property
    def instances(self) -> InstanceStore:
        """The received instances of the state file."""
        return InstanceStore(self.database, on_change=self.wake)


def assembly_worker(
    node: NodeContext, traffic: Traffic, counts: ArchiveCounts | None
) -> AssemblyWorker:
    """Return the worker that declares series complete."""
    completion = node.config.completion
    return AssemblyWorker(
        jobs=node.jobs,
        instances=node.instances,
        policy=CompletionPolicy(
            settle_seconds=completion.settle_seconds,
            quiet_seconds=completion.quiet_seconds,
            archive_wait_seconds=completion.archive_wait_seconds,
        ),
        moment=node.clock.moment,
        traffic=traffic,
        archive=counts,
    )


def analysis_workers(node: NodeContext, watchdog: Watchdog) -> Iterator[AnalysisWorker]:
    """Yield the workers that analyse series, each with a process of its own."""
    analysis = node.config.analysis
    settings = settings_of(node.config)
    for number in range(analysis.workers):
        name = f"analysis-{number}"
        on_alive = watchdog.watch_loop(name)
        yield AnalysisWorker(
            name=name,
            on_alive=on_alive,
            process=WorkerProcess(
                time_limit=analysis.time_limit_seconds,
                memory_limit=int(analysis.memory_limit_gb * GIGABYTE),
                on_alive=on_alive,
            ),
            jobs=node.jobs,
            instances=node.instances,
            settings=settings,
            results_dir=node.layout.results,
            attempts=analysis.attempts,
            clock=node.clock.now,
            on_composed=node.wake,
            find_prior_reports=archive_lookup(node.config, node.conversations),
            read_ahead_bytes=_read_ahead_bytes(analysis),
        )


def _read_ahead_bytes(analysis: AnalysisConfig) -> int:
    """Return the memory for images read ahead; 0 with several workers: any may get the series."""
    if analysis.workers > 1:
        return 0
    limit = int(analysis.memory_limit_gb * GIGABYTE)
    return min(_READ_AHEAD, limit // _READ_AHEAD_PART) if limit else _READ_AHEAD


def delivery_worker(node: NodeContext, audit: AuditHooks | None) -> DeliveryWorker:
    """Return the worker that plans and sends deliveries."""
    delivery = node.config.delivery
    sender: Sender = partial(
        send_to,
        calling_ae=node.config.node.ae_title,
        timeout_seconds=delivery.timeout_seconds,
        slowest=delivery.slowest_kilobytes_per_second * _KILOBYTE,
        under_way=node.conversations,
    )
    return DeliveryWorker(
        jobs=node.jobs,
        deliveries=DeliveryStore(node.database),
        destinations=destinations_of(node.config),
        sender=AuditedSender(sender, audit) if audit else sender,
        back_off=_back_off(node),
        clock=node.clock.now,
    )


def commitment_worker(node: NodeContext) -> CommitmentWorker:
    """Return the worker that requests storage commitment."""
    delivery = node.config.delivery
    return CommitmentWorker(
        jobs=node.jobs,
        commitments=CommitmentStore(node.database),
        destinations=destinations_of(node.config),
        requester=partial(
            request_commitment,
            calling_ae=node.config.node.ae_title,
            timeout_seconds=delivery.timeout_seconds,
            under_way=node.conversations,
        ),
        back_off=_back_off(node),
        timeout=timedelta(seconds=delivery.commitment_timeout_seconds),
        clock=node.clock.now,
    )


def notification_worker(node: NodeContext) -> NotificationWorker:
    """Return the worker that sends notifications; every end of a job causes some from now on."""
    deliveries = DeliveryStore(node.database)
    worker = NotificationWorker(
        jobs=node.jobs,
        notifications=NotificationStore(node.database),
        targets=targets_of(node.config, node.instances, deliveries, node.conversations),
        back_off=_back_off(node),
        clock=node.clock.now,
    )
    worker.begin()
    return worker


def retention_worker(node: NodeContext) -> RetentionWorker:
    """Return the worker that releases delivered series."""
    limits = node.config.retention
    return RetentionWorker(
        store=RetentionStore(node.database),
        results_dir=node.layout.results,
        longest=timedelta(days=limits.days) if limits.days else None,
        largest=int(limits.gigabytes * GIGABYTE) if limits.gigabytes else None,
        skipped_since=node.clock.skipped_since,
    )


def housekeeping_worker(node: NodeContext, spool: Spool) -> HousekeepingWorker:
    """Return the worker that checks the spool and tidies the data directory."""
    days = node.config.retention.days
    facts = NodeFacts(node.database)
    facts.write({"files": "being checked"})
    return HousekeepingWorker(
        database=node.database,
        instances=node.instances,
        spool=spool,
        layout=node.layout,
        keep=timedelta(days=days) if days else None,
        on_checked=lambda summary: facts.write({"files": summary}),
    )


def _back_off(node: NodeContext) -> BackOff:
    delivery = node.config.delivery
    return BackOff(
        first=timedelta(seconds=delivery.first_retry_seconds),
        longest=timedelta(seconds=delivery.longest_retry_seconds),
        give_up_after=timedelta(hours=delivery.give_up_after_hours),
        jitter=_JITTER,
        skipped_since=node.clock.skipped_since,
    )
