"""An earlier result of the same patient, for tests of what is written about the change since."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydicom.uid import Comprehensive3DSRStorage

from chestct.evolution import AcquisitionContext, Evolution, PriorResult, compare
from chestct.findings import Findings
from chestct.results import ResultReference
from chestct.uids import Uid, derive_uid

NOW = datetime.fromisoformat("2026-03-15T10:30")
PRIOR_STUDY = derive_uid("prior study")
PRIOR_REPORT = derive_uid("prior report")
_PRESENT = AcquisitionContext(
    study_uid=Uid("1.1"),
    acquired=NOW,
    patient="p",
    has_time=True,
    birth_date="",
    sex="",
    models="m",
    settings="s",
    kernel="B70f",
    slice_spacing_mm=3.0,
)


def acquisition_context(**changes: Any) -> AcquisitionContext:
    """Return the context of a series acquired at :data:`NOW`; ``changes`` replaces fields."""
    return replace(_PRESENT, **changes)


def report_reference(role: str) -> ResultReference:
    """Return a reference to a report; its UIDs derive from ``role``."""
    return ResultReference(
        study_uid=derive_uid(f"{role} study"),
        series_uid=derive_uid(f"{role} series"),
        sop_class_uid=Uid(Comprehensive3DSRStorage),
        sop_instance_uid=derive_uid(f"{role} report"),
    )


def evolution_after(findings: Findings, **changes: Any) -> Evolution | None:
    """Compare ``findings`` with a study of two weeks before; ``changes`` edit its context."""
    present = acquisition_context(study_uid=derive_uid("study"))
    earlier = {"study_uid": PRIOR_STUDY, "acquired": NOW - timedelta(days=14)}
    prior = PriorResult(
        context=replace(present, **(earlier | changes)),
        report=report_reference("prior"),
        lesion_ml=100.0,
        involved_percent=10.0,
    )
    return compare(findings, present, [prior])
