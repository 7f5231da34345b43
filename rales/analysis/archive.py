"""Finds earlier reports of the patient in the PACS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pydicom
from pydicom.dataset import Dataset

from chestct.errors import AnalysisStopped
from chestct.evolution import AcquisitionContext, PriorResult
from chestct.identity import patient_key
from chestct.series import Series
from chestct.uids import digest
from dicom_out.network.allowance import Conversations
from dicom_out.network.prior_reports import ReportQuery, fetch_reports
from dicom_out.network.query import ArchiveUnavailable
from dicom_out.objects.acquisition import read_study_time
from dicom_out.objects.patient_study import carried_identity
from dicom_out.objects.sr_reader import EarlierReport, NotOurReport, read_report
from rales.analysis.priors import keyed_digest
from rales.config.peers import destinations_of
from rales.config.sections import Config

_LOG = logging.getLogger(__name__)

_HEADER = [
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "StudyDate",
    "StudyTime",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorReports:
    """The earlier results of a patient.

    ``trouble`` says why the archive could not be asked; it is empty when the archive answered.
    """

    results: tuple[PriorResult, ...] = ()
    trouble: str = ""


FindPriorReports = Callable[[Series], PriorReports]
"""Finds earlier results of a series' patient; never raises for what the archive does."""


def archive_lookup(config: Config, conversations: Conversations) -> FindPriorReports | None:
    """Return the lookup in the configured archive; None when no archive is configured."""
    priors = config.priors
    if not priors.destination:
        return None
    return partial(
        find_prior_reports,
        fetch=partial(
            fetch_reports,
            archive=destinations_of(config)[priors.destination],
            calling_ae=config.node.ae_title,
            timeout_seconds=priors.timeout_seconds,
            under_way=conversations,
        ),
        days=priors.days,
        conversations=conversations,
    )


def find_prior_reports(
    series: Series,
    *,
    fetch: Callable[[ReportQuery], Sequence[Dataset]],
    days: int,
    conversations: Conversations,
) -> PriorReports:
    """Return the earlier results that are surely of the same patient.

    The answer of the archive is not trusted: each report is read, and its Patient ID, issuer and
    name must equal those of the series.

    Raises:
        AnalysisStopped: The node stops and cut the archive off. Without this error the result
            would state that the archive could not be asked.
    """
    try:
        header = pydicom.dcmread(
            series.instances[0].path, stop_before_pixels=True, specific_tags=list(_HEADER)
        )
        study_time = read_study_time(header)
        if study_time is None:
            return PriorReports()
        reports = fetch(ReportQuery(header=header, until=study_time.date(), days=days))
        key = series.instances[0].patient_key
        carried = carried_identity(header)
        keys = {key, patient_key(*carried)} if carried[0] else {key}
        return PriorReports(results=_of_patient(reports, key, keys))
    except ArchiveUnavailable as error:
        if conversations.are_over:
            raise AnalysisStopped("the node is stopping") from error
        trouble = str(error)
    except OSError as error:
        trouble = error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - no header and no report may cost the result
        trouble = f"the query or its answer cannot be read ({type(error).__name__})"
    _LOG.warning("earlier reports could not be looked up: %s", trouble)
    return PriorReports(trouble=trouble)


def _of_patient(reports: Sequence[Dataset], key: str, keys: set[str]) -> tuple[PriorResult, ...]:
    """Return the reports of one patient, the newest first.

    ``keys`` has ``key``, which is that of the images, and that of reports on them: an invalid
    value of the images is mended in a report.
    """
    earlier_reports = []
    for report in reports:
        try:
            earlier = read_report(report)
        except NotOurReport as error:
            _LOG.info("an SR of the archive is left out: %s", error)
            continue
        if patient_key(*earlier.patient) in keys:
            earlier_reports.append(earlier)
    earlier_reports.sort(key=lambda report: report.written, reverse=True)
    return tuple(_prior(report, key) for report in earlier_reports)


def _prior(earlier: EarlierReport, key: str) -> PriorResult:
    """Return a report as a prior.

    Its acquisition is known to the day only: the report holds Study Date and Time, which may
    precede the acquisition.
    """
    return PriorResult(
        context=AcquisitionContext(
            study_uid=earlier.study_uid,
            acquired=earlier.acquired,
            has_time=False,
            patient=key if earlier.patient[0] else "",
            birth_date=keyed_digest(key, earlier.birth_date),
            sex=keyed_digest(key, earlier.sex),
            models=digest(earlier.models),
            settings=digest([repr(earlier.method)]),
            kernel="",
            slice_spacing_mm=None,
        ),
        report=earlier.reference,
        lesion_ml=earlier.lesion_ml,
        involved_percent=earlier.involved_percent,
        covers=earlier.covers,
    )
