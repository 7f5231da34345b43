"""The durable state of the node, in one SQLite file.

Each change of a job's state is a guarded UPDATE and an event row in one transaction. So two
processes (the node and ``rales retry``) cannot both make the same change, and every change has an
event.
"""

from rales.state.store.commitments import CommitmentStore
from rales.state.store.database import Database
from rales.state.store.deliveries import Delivery, DeliveryStore
from rales.state.store.grouped import GroupedIntake
from rales.state.store.instances import InstanceStore
from rales.state.store.job import Job
from rales.state.store.jobs import JobStore
from rales.state.store.notifications import Notification, NotificationStore
from rales.state.store.retention import RetentionStore

__all__ = [
    "CommitmentStore",
    "Database",
    "Delivery",
    "DeliveryStore",
    "GroupedIntake",
    "InstanceStore",
    "Job",
    "JobStore",
    "Notification",
    "NotificationStore",
    "RetentionStore",
]
