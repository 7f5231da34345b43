"""The result of an analysis, as ``findings.json`` of the job holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from chestct.errors import NotificationImpossible
from chestct.findings import Findings
from chestct.findings_json import findings_from_dict
from chestct.results import ModelIdentity
from rales.state.results import load_objects
from rales.state.store import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The findings of a job, and the software and models that measured them."""

    findings: Findings
    models: tuple[ModelIdentity, ...]
    software: str


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
    return Result(
        findings=findings_from_dict(content["findings"]),
        models=tuple(ModelIdentity(**model) for model in content["models"]),
        software=content["software"],
    )
