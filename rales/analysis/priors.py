"""Earlier results of the same patient that this node has made, and how they are remembered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chestct.evolution import Circumstances, Evolution, PriorResult
from chestct.findings import Coverage, Method, Severity
from chestct.series import Series
from chestct.uids import Uid, digest
from chestct.volume import Volume
from dicom_out.objects.acquisition import read_acquisition
from rales.state.results import sr_reference
from rales.state.store import Job


def circumstances_of(
    series: Series, volume: Volume, *, models_digest: str, method: Method
) -> Circumstances | None:
    """Return what a later study is compared by; None when the images bear no date.

    Raises:
        OSError: The images are gone.
    """
    first = series.instances[0]
    acquisition = read_acquisition(first.path)
    if acquisition is None:
        return None
    return Circumstances(
        study_uid=first.study_uid,
        acquired=acquisition.acquired,
        patient=first.patient_key if acquisition.is_identified else "",
        has_time=acquisition.has_time,
        birth_date=secret(first.patient_key, acquisition.birth_date),
        sex=secret(first.patient_key, acquisition.sex),
        models=models_digest,
        settings=digest([repr(method)]),
        kernel=acquisition.kernel,
        slice_spacing_mm=volume.geometry.slice_spacing,
    )


def secret(patient: str, value: str) -> str:
    """Return a digest that says nothing but whether two values of one patient are equal."""
    return digest((patient, value)) if value else ""


def remembered(circumstances: Circumstances) -> dict[str, Any]:
    """Return plain JSON types, for the state file; no name, no identifier."""
    return {
        "acquired": circumstances.acquired.isoformat(),
        "patient": circumstances.patient,
        "has_time": circumstances.has_time,
        "birth_date": circumstances.birth_date,
        "sex": circumstances.sex,
        "models": circumstances.models,
        "settings": circumstances.settings,
        "kernel": circumstances.kernel,
        "slice_spacing_mm": circumstances.slice_spacing_mm,
    }


def prior_of(job: Job) -> PriorResult | None:
    """Return a job's result as a prior; None when it was not remembered (an older version)."""
    result: Mapping[str, Any] = job.result or {}
    made, report = result.get("circumstances"), sr_reference(job)
    if made is None or report is None:
        return None
    findings = result["findings"]
    covers = Coverage(findings.get("covers", Coverage.BOTH))  # older versions: always both
    percents = findings if covers is Coverage.BOTH else findings[covers]
    return PriorResult(
        circumstances=Circumstances(
            study_uid=Uid(job.study_uid),
            acquired=datetime.fromisoformat(made["acquired"]),
            patient=made["patient"],
            has_time=made["has_time"],
            birth_date=made["birth_date"],
            sex=made["sex"],
            models=made["models"],
            settings=made["settings"],
            kernel=made["kernel"],
            slice_spacing_mm=made["slice_spacing_mm"],
        ),
        report=report,
        lesion_ml=findings["lesion_ml"],
        involved_percent=percents["involved_percent"],
        severity=Severity(findings["severity"]) if findings["severity"] else None,
        covers=covers,
    )


def told(evolution: Evolution) -> dict[str, Any]:
    """Return plain JSON types, for the state file and findings.json."""
    plain: dict[str, Any] = {
        "prior_study_uid": evolution.prior.circumstances.study_uid,
        "prior_report_uid": evolution.prior.report.sop_instance_uid,
        "prior_acquired": evolution.prior.circumstances.acquired.isoformat(),
        "interval_days": evolution.interval_days,
        "comparison": str(evolution.comparison),
    }
    if not evolution.is_comparable:
        return plain
    return plain | {
        "lesion_ml_change": round(evolution.lesion_ml_change, 2),
        "involved_percent_change": round(evolution.involved_change, 2),
        "severity_before": evolution.prior.severity and str(evolution.prior.severity),
        "covers": str(evolution.covers),
    }
