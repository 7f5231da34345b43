"""Earlier reports of the patient that lie in the PACS and not here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pydicom
from pydicom.dataset import Dataset

from chestct.errors import AnalysisStopped
from chestct.evolution import Circumstances, PriorResult
from chestct.identity import patient_key
from chestct.series import Series
from chestct.uids import digest
from dicom_out.network.allowance import Conversations
from dicom_out.network.query import ArchiveUnavailable, Wanted, fetch_reports
from dicom_out.objects.acquisition import read_study_time
from dicom_out.objects.sr_reader import EarlierReport, NotOurReport, read_report
from rales.analysis.priors import secret
from rales.config.peers import destinations_of
from rales.config.sections import Config

_LOG = logging.getLogger(__name__)

_HEADER = ["SpecificCharacterSet", "PatientID", "StudyDate", "StudyTime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the archive has; ``trouble`` says why it could not be asked, or is empty."""

    results: tuple[PriorResult, ...] = ()
    trouble: str = ""


Archive = Callable[[Series], Found]
"""Looks for earlier results of a series' patient; never raises for what the archive does."""


def archive_of(config: Config, under_way: Conversations) -> Archive | None:
    """Return what looks in the configured archive; None where none is configured."""
    priors = config.priors
    if not priors.destination:
        return None
    return partial(
        look,
        fetch=partial(
            fetch_reports,
            archive=destinations_of(config)[priors.destination],
            calling_ae=config.node.ae_title,
            timeout_seconds=priors.timeout_seconds,
            under_way=under_way,
        ),
        days=priors.days,
        under_way=under_way,
    )


def look(
    series: Series,
    *,
    fetch: Callable[[Wanted], Sequence[Dataset]],
    days: int,
    under_way: Conversations,
) -> Found:
    """Return the earlier results that are surely of the same patient.

    The archive's word is not taken for it: each report is read, and Patient ID, issuer and name
    must be those of the series.

    Raises:
        AnalysisStopped: The archive was cut off because the node stops: what is made without it
            would say that it could not be asked.
    """
    try:
        header = pydicom.dcmread(
            series.instances[0].path, stop_before_pixels=True, specific_tags=list(_HEADER)
        )
        present = read_study_time(header)
        if present is None:
            return Found()
        reports = fetch(Wanted(header=header, until=present[0].date(), days=days))
        return Found(results=_of_patient(reports, series.instances[0].patient_key))
    except ArchiveUnavailable as error:
        if under_way.are_over:
            raise AnalysisStopped("the node is stopping") from error
        trouble = str(error)
    except OSError as error:
        trouble = error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - whatever a header or a report holds costs no result
        trouble = f"what is asked or answered cannot be read ({type(error).__name__})"
    _LOG.warning("earlier reports could not be looked up: %s", trouble)
    return Found(trouble=trouble)


def _of_patient(reports: Sequence[Dataset], key: str) -> tuple[PriorResult, ...]:
    """Return the reports of one patient, the newest revision of each study first."""
    found = []
    for report in reports:
        try:
            earlier = read_report(report)
        except NotOurReport as error:
            _LOG.info("an SR of the archive is left out: %s", error)
            continue
        if patient_key(*earlier.patient) == key:
            found.append(earlier)
    found.sort(key=lambda one: one.written, reverse=True)
    return tuple(_prior(one, key) for one in found)


def _prior(earlier: EarlierReport, key: str) -> PriorResult:
    """Return a report as a prior.

    When its images were taken is known to the day: it keeps Study Date and Time only, which may
    lie before those of the images.
    """
    return PriorResult(
        circumstances=Circumstances(
            study_uid=earlier.study_uid,
            acquired=earlier.acquired,
            has_time=False,
            patient=key if earlier.patient[0] else "",
            birth_date=secret(key, earlier.birth_date),
            sex=secret(key, earlier.sex),
            models=digest(earlier.models),
            settings=digest([repr(earlier.method)]),
            kernel="",
            slice_spacing_mm=None,
        ),
        report=earlier.reference,
        lesion_ml=earlier.lesion_ml,
        involved_percent=earlier.involved_percent,
        severity=earlier.severity,
        covers=earlier.covers,
    )
