"""The durable state of the node: one SQLite file that is the truth.

Every change of a job's state is a guarded UPDATE and an event row in one transaction, so
that two processes (the node and ``rales retry``) cannot both win, and so that the events
are the audit trail.
"""

from rales.store.commitments import CommitmentStore
from rales.store.database import Database
from rales.store.deliveries import Delivery, DeliveryStore
from rales.store.instances import InstanceStore
from rales.store.jobs import Job, JobStore
from rales.store.notifications import Notification, NotificationStore
from rales.store.retention import RetentionStore

__all__ = [
    "CommitmentStore",
    "Database",
    "Delivery",
    "DeliveryStore",
    "InstanceStore",
    "Job",
    "JobStore",
    "Notification",
    "NotificationStore",
    "RetentionStore",
]
