"""Earlier results of this node as priors, and the plain JSON of contexts and evolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from chestct.errors import InputUnavailable
from chestct.evolution import AcquisitionContext, Evolution, PriorResult
from chestct.findings import Coverage, Outcome
from chestct.method import Method
from chestct.series import Series
from chestct.uids import Uid, digest
from chestct.volume import Volume
from dicom_out.objects.acquisition import read_acquisition
from rales.state.results import sr_reference, sr_references
from rales.state.store import Job


def read_context(
    series: Series, volume: Volume, *, models_digest: str, method: Method
) -> AcquisitionContext | None:
    """Return what a later study is compared by; None when the images have no date.

    Raises:
        InputUnavailable: The header of an image cannot be read now.
    """
    first = series.instances[0]
    try:
        acquisition = read_acquisition(first.path)
    except OSError as error:
        raise InputUnavailable.because_of(error, first.sop_instance_uid) from error
    if acquisition is None:
        return None
    return AcquisitionContext(
        study_uid=first.study_uid,
        acquired=acquisition.acquired,
        patient=first.patient_key if acquisition.is_identified else "",
        has_time=acquisition.has_time,
        birth_date=keyed_digest(first.patient_key, acquisition.birth_date),
        sex=keyed_digest(first.patient_key, acquisition.sex),
        models=models_digest,
        settings=digest([repr(method)]),
        kernel=acquisition.kernel,
        slice_spacing_mm=volume.geometry.slice_spacing,
    )


def keyed_digest(patient: str, value: str) -> str:
    """Return a digest that shows only whether two values of one patient are equal."""
    return digest((patient, value)) if value else ""


def context_to_dict(context: AcquisitionContext) -> dict[str, Any]:
    """Return plain JSON types for the state file; they hold no name and no identifier."""
    plain = asdict(context) | {"acquired": context.acquired.isoformat()}
    del plain["study_uid"]  # the job has it
    return plain


def prior_from_job(job: Job) -> PriorResult | None:
    """Return the result of a job as a prior; None when it has no context or no SR."""
    result: Mapping[str, Any] = job.result or {}
    context, report = result.get("context"), sr_reference(job)
    if context is None or report is None:
        return None
    findings = result["findings"]
    covers = Coverage(findings.get("covers", Coverage.BOTH))  # older versions: always both
    # Earlier versions stored no states_opacity; without lesions, only "none marked" is certain.
    surely = bool(findings["lesions"]) or findings.get("outcome") == Outcome.NONE_MARKED
    percents = findings if covers is Coverage.BOTH else findings[covers]
    return PriorResult(
        context=AcquisitionContext(
            **context
            | {
                "study_uid": Uid(job.study_uid),
                "acquired": datetime.fromisoformat(context["acquired"]),
            }
        ),
        report=report,
        lesion_ml=findings["lesion_ml"] or 0.0,  # null in doubt, and never subtracted
        involved_percent=percents["involved_percent"] or 0.0,
        covers=covers,
        states_opacity=findings.get("states_opacity", surely),
        other_reports=sr_references(job),
    )


def evolution_to_dict(evolution: Evolution) -> dict[str, Any]:
    """Return plain JSON types for the state file and findings.json."""
    plain: dict[str, Any] = {
        "prior_study_uid": evolution.prior.context.study_uid,
        "prior_report_uid": evolution.prior.report.sop_instance_uid,
        "prior_acquired": evolution.prior.context.acquired.isoformat(),
        "interval_days": evolution.interval_days,
        "comparison": str(evolution.comparison),
    }
    if not evolution.is_comparable:
        return plain
    return plain | {
        "lesion_ml_change": round(evolution.lesion_ml_change, 2),
        "involved_percent_change": round(evolution.involved_change, 2),
        "covers": str(evolution.covers),
    }
