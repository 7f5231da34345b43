"""What an analysis leaves on disk and how the state file refers to it.

A result folder holds ``seg.dcm``, ``sr.dcm``, ``findings.json`` and ``overlay.png``, and, as
configured, ``seg-lesions.dcm``, the ``-labelmap.dcm`` of each object and a file of each
:class:`chestct.results.Extra`. The
state file keeps the same facts in short, with the UIDs of the objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chestct.findings import Findings, Lung, NotAssessable
from chestct.results import Extra, ResultObject, ResultReference, ResultSet, SegKind
from chestct.uids import Uid
from chestct.verdict import verdict
from rales.state.store.job import Job

SR_ROLE = "sr"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisReport:
    """Everything that one successful analysis reports.

    ``seconds`` are wall-clock seconds per stage, in the order in which they ran;
    ``circumstances`` is what a later study is compared by, ``evolution`` the change since the
    one before (:mod:`rales.analysis.priors`), ``left_out`` what a destination may have asked for
    beside SEG and SR and could not be made. ``may_be_part`` says why the slices may not be all of
    their series yet; empty: they look whole.
    """

    results: ResultSet
    findings: Findings
    seconds: Mapping[str, float]
    provider: str
    overlay: Path
    circumstances: Mapping[str, Any] | None = None
    evolution: Mapping[str, Any] | None = None
    left_out: tuple[Extra, ...] = ()
    may_be_part: str = ""
    created: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, for the state file."""
        findings = self.findings
        return {
            "objects": [asdict(item) | {"path": str(item.path)} for item in self.results.objects],
            "overlay": str(self.overlay),
            "provider": self.provider,
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "findings": {
                "verdict": verdict(findings),
                "covers": str(findings.covers),
                "lesion_present": _present(findings),
                "lesions": len(findings.lesions),
                "involved_percent": findings.total and round(findings.total.involved_percent, 2),
                "lesion_ml": round(findings.covered.lesion_ml, 2),
                "lung_ml": round(findings.covered.volume_ml, 1),
                "severity": findings.severity and str(findings.severity),
                "left": _lung(findings.left),
                "right": _lung(findings.right),
                "quality_flags": list(findings.quality_flags),
            },
            "circumstances": self.circumstances,
            "evolution": self.evolution,
            "left_out": [str(extra) for extra in self.left_out],
            "created": self.created.isoformat() if self.created else None,
        }


def _present(findings: Findings) -> bool | None:
    """Return whether there is a lesion; None where one lung has none and the other is unknown."""
    return True if findings.lesions else None if findings.missing else False


def _lung(lung: Lung) -> dict[str, Any]:
    if isinstance(lung, NotAssessable):
        return {"not_assessable": lung.reason}
    return {
        "involved_percent": round(lung.involved_percent, 2),
        "lesion_ml": round(lung.lesion_ml, 2),
        "lung_ml": round(lung.volume_ml, 1),
    }


def created_before(job: Job) -> datetime | None:
    """Return when the results of a job that is analysed again were made the first time.

    Made with the same time, they are the same objects, byte for byte.
    """
    created = (job.result or {}).get("created")
    return datetime.fromisoformat(created) if created else None


def load_objects(job: Job) -> list[ResultObject]:
    """Return the result objects of a composed job, in the order in which they are sent."""
    stored = job.result["objects"] if job.result else []
    return [
        ResultObject(
            role=item["role"],
            path=Path(item["path"]),
            sop_class_uid=Uid(item["sop_class_uid"]),
            sop_instance_uid=Uid(item["sop_instance_uid"]),
            series_uid=Uid(item["series_uid"]),
            study_uid=Uid(item["study_uid"]),
            digest=item.get("digest", ""),
            size=item.get("size", 0),
        )
        for item in stored
    ]


def objects_for(
    kind: SegKind, extras: Collection[Extra], objects: Sequence[ResultObject]
) -> list[ResultObject]:
    """Return the objects for a destination that takes SEGs of ``kind``, in their order.

    What there is in one kind only (a result from before the other was configured) goes to all;
    of the extras only those it asks for.
    """
    labelmap = SegKind.LABELMAP
    roles = {item.role for item in objects}
    twins = {role for role in roles if labelmap.role(role) in roles}
    unwanted = twins if kind is labelmap else {labelmap.role(role) for role in twins}
    unwanted |= {str(extra) for extra in Extra if extra not in extras}
    return [item for item in objects if item.role not in unwanted]


def is_seg(role: str) -> bool:
    """Tell whether the object of a role is a segmentation, of whatever kind."""
    return role == "seg" or role.startswith("seg-")


def sr_references(job: Job) -> dict[SegKind, ResultReference]:
    """Return the SRs of a job by SEG kind, for the SRs that replace them."""
    references = {kind: sr_reference(job, kind) for kind in SegKind}
    return {kind: reference for kind, reference in references.items() if reference is not None}


def sr_reference(job: Job, kind: SegKind = SegKind.BINARY) -> ResultReference | None:
    """Return the reference to the SR of an earlier job, which a new SR supersedes."""
    for item in load_objects(job):
        if item.role == kind.role(SR_ROLE):
            return ResultReference(
                study_uid=item.study_uid,
                series_uid=item.series_uid,
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
            )
    return None
