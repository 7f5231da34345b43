"""A state file with one series, and what tells of its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from state_rig import NOON, StateRig

from chestct.findings import (
    Diameter,
    Extent,
    Findings,
    Lesion,
    LungMeasurement,
    OpacityMeasurement,
    Side,
    Zone,
    ZoneMeasurement,
)
from chestct.findings_json import findings_to_dict
from chestct.method import Method, Presence
from chestct.states import JobState
from rales.config.sections import Config
from rales.state.store import (
    Database,
    DeliveryStore,
    Job,
    Notification,
    NotificationStore,
)
from rales.steps.backoff import BackOff
from rales.steps.notify.targets import targets_of
from rales.steps.notify.worker import NotificationWorker

KEY = bytes(range(32))
PATIENT_ID = "ZQ-4711"
ISSUER_SYSTEM = "urn:oid:2.16.840.1.113883.19.5"

_LUNG = LungMeasurement(
    volume_ml=2000.0,
    lesion_ml=0.0,
    involved_percent=0.0,
    high_opacity_percent=0.0,
    lesion_mean_hu=None,
)
HEALTHY = Findings(
    left=_LUNG,
    right=_LUNG,
    total=_LUNG,
    lesions=(),
    presence=Presence(score=0.0, operating_point=0.5),
    extent=Extent.NONE,
    method=Method(),
    ground_glass=OpacityMeasurement(volume_ml=0.0, mean_hu=None),
    consolidation=OpacityMeasurement(volume_ml=0.0, mean_hu=None),
)

LESION = Lesion(
    number=1,
    side=Side.LEFT,
    volume_ml=61.237,
    mean_hu=-412.349,
    high_opacity_percent=12.345,
    centroid=(1.0, 2.0, 3.0),
    diameter=Diameter(
        slice_index=3, long_axis_mm=40.0, short_axis_mm=30.0, long_axis=((1.0, 2.0), (3.0, 4.0))
    ),
)
ZONES = tuple(
    ZoneMeasurement(zone=zone, volume_ml=500.0, lesion_ml=10.0, involved_percent=percent)
    for zone, percent in zip(Zone, (1.114, 2.224, 3.334, 4.444, 5.554), strict=True)
)
ILL = replace(
    HEALTHY,
    left=replace(
        HEALTHY.left, volume_ml=1987.654, lesion_ml=61.237, involved_percent=3.0809, zones=ZONES
    ),
    total=replace(
        HEALTHY.total,
        volume_ml=3987.654,
        lesion_ml=61.237,
        involved_percent=1.53566,
        high_opacity_percent=12.345,
        lesion_mean_hu=-412.349,
    ),
    lesions=(LESION,),
    presence=replace(HEALTHY.presence, score=0.98765),
    extent=Extent.MILD,
    ground_glass=OpacityMeasurement(volume_ml=53.677, mean_hu=-498.123),
    consolidation=OpacityMeasurement(volume_ml=7.56, mean_hu=-101.5),
    quality_flags=("lung-at-border",),
)


class Rig(StateRig):
    """A state file with one received series, and the notifications of its end."""

    def __init__(self, database: Database, folder: Path, config: Config) -> None:
        super().__init__(database)
        self.folder, self.config = folder, config
        self.outbox = NotificationStore(self.database)
        self.worker = NotificationWorker(
            jobs=self.jobs,
            notifications=self.outbox,
            targets=targets_of(config, self.instances, DeliveryStore(self.database)),
            back_off=BackOff(
                first=timedelta(seconds=5),
                longest=timedelta(minutes=10),
                give_up_after=timedelta(hours=72),
            ),
            clock=self.clock,
        )
        self.worker.begin()

    @property
    def job(self) -> Job:
        """The newest."""
        return self.jobs.all()[-1]

    @property
    def told(self) -> Notification:
        (one,) = self.outbox.of_job(self.job.id)
        return one

    def reject(self) -> None:
        self.jobs.move(
            self.claim(self.job.series_uid),
            JobState.REJECTED,
            at=NOON,
            message="a localizer is not analysed",
            reason="localizer",
        )

    def finish(self, findings: Findings, *, extra: str = "") -> None:
        """Have the series analysed and nowhere to go."""
        for role in filter(None, ("seg", "sr", extra)):
            (self.folder / f"{role}.dcm").write_bytes(role.encode())
        objects = [
            {
                "role": role,
                "path": str(self.folder / f"{role}.dcm"),
                "sop_class_uid": f"1.2.840.10008.5.1.4.1.1.{kind}",
                "sop_instance_uid": f"2.25.{number}",
                "series_uid": f"2.25.{number}0",
                "study_uid": "1.2",
                "digest": sha256(role.encode()).hexdigest(),
                "size": len(role),
            }
            for role, kind, number in (("seg", "66.4", 7), ("sr", "88.34", 8), (extra, "7", 9))
            if role
        ]
        model = {"name": "net", "version": "1", "digest": "d", "licence": "x"}
        content = {
            "findings": findings_to_dict(findings),
            "models": [model, model | {"name": "lesions"}],
            "software": "Rales 0.1.0",
        }
        (self.folder / "findings.json").write_text(json.dumps(content))
        short = {"lesions": len(findings.lesions), "extent": str(findings.extent)}
        self.jobs.composed(
            self.claim(self.job.series_uid),
            key="k",
            result={"objects": objects, "findings": short},
            at=NOON,
            message="ok",
        )
        deliveries = DeliveryStore(self.database)
        deliveries.begin(self.job, planned={}, at=NOON)
        deliveries.finish_jobs(at=NOON)
        assert self.job.state is JobState.DONE

    def send(self, after: float = 0.0) -> Any:
        return self.worker.send_due("ris", self.clock.advance(after))


MakeRig = Callable[..., Rig]


def write_header(path: Path, patient: dict[str, Any]) -> None:
    """Write the header of a CT image."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    said = {
        "PatientID": PATIENT_ID,
        "PatientName": "Quimby^Ada",
        "AccessionNumber": "ACC9",
        "StudyDate": "20251231",
        "StudyTime": "101530",
        "SeriesNumber": 3,
    }
    for keyword, value in (said | patient).items():
        setattr(dataset, keyword, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
