"""The result of an analysis, as ``findings.json`` of the job holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from chestct.errors import NotificationImpossible
from chestct.findings import (
    Coverage,
    Lung,
    LungMeasurement,
    OpacityMeasurement,
    Severity,
    coverage_of,
)
from chestct.findings_json import lung_from_dict, measurement_from_dict
from chestct.results import ModelIdentity
from rales.state.results import load_objects
from rales.state.store import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The measurements of a job that a FHIR server gets."""

    left: Lung
    right: Lung
    total: LungMeasurement | None
    ground_glass: OpacityMeasurement
    consolidation: OpacityMeasurement
    lesions: int
    presence_score: float
    severity: Severity | None
    quality_flags: tuple[str, ...]
    models: tuple[ModelIdentity, ...]
    software: str

    @property
    def covers(self) -> Coverage:
        """The lungs that were assessed."""
        return coverage_of(self.left, self.right)

    @property
    def covered(self) -> LungMeasurement:
        """The measurement of the assessed lungs."""
        lungs = (self.total, self.left, self.right)
        return next(lung for lung in lungs if isinstance(lung, LungMeasurement))


def read_result(job: Job) -> Result:
    """Read the result of ``job``.

    Raises:
        NotificationImpossible: The job has no results.
        OSError: They cannot be read.
    """
    objects = load_objects(job)
    if not objects:
        raise NotificationImpossible("the series has no results")
    folder: Path = objects[0].path.parent
    content = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    findings = content["findings"]
    return Result(
        left=lung_from_dict(findings["left"]),
        right=lung_from_dict(findings["right"]),
        total=measurement_from_dict(findings["total"]) if findings["total"] else None,
        ground_glass=OpacityMeasurement(**findings["ground_glass"]),
        consolidation=OpacityMeasurement(**findings["consolidation"]),
        lesions=len(findings["lesions"]),
        presence_score=findings["presence"]["score"],
        severity=Severity(findings["severity"]) if findings["severity"] else None,
        quality_flags=tuple(findings["quality_flags"]),
        models=tuple(ModelIdentity(**model) for model in content["models"]),
        software=content["software"],
    )
