"""The outcome of an analysis, and its record in the state file.

A result folder holds ``seg.dcm``, ``sr.dcm``, ``findings.json`` and ``overlay.png``, and, as
configured, ``seg-lesions.dcm``, the objects of other profiles (``sr-slicer.dcm``), and a file of
each :class:`chestct.results.Extra`. The state file records the main numbers and the objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chestct.findings import Findings, Lung, NotAssessable
from chestct.results import Extra, Profile, ResultObject, ResultReference, ResultSet
from chestct.uids import Uid
from chestct.verdict import scope, verdict
from rales.state.store.job import Job

SR_ROLE = "sr"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisReport:
    """The outcome of a successful analysis.

    Attributes:
        seconds: Wall-clock seconds of each stage, in order.
        context: The acquisition context as plain JSON; a later study is compared by it.
        evolution: The change since the prior study as plain JSON.
        left_out: Extras that failed.
        may_be_part: Why the series may still miss slices; empty when it looks complete.
    """

    results: ResultSet
    findings: Findings
    seconds: Mapping[str, float]
    provider: str
    overlay: Path
    context: Mapping[str, Any] | None = None
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
                "outcome": str(findings.outcome),
                "verdict": verdict(findings),
                "scope": scope(findings),
                "covers": str(findings.covers),
                "states_opacity": findings.states_opacity,
                **_amounts(findings),
                "lung_ml": round(findings.covered.volume_ml, 1),
                "left": _lung(findings.left, findings),
                "right": _lung(findings.right, findings),
                "quality_flags": list(findings.quality_flags),
            },
            "context": self.context,
            "evolution": self.evolution,
            "left_out": [str(extra) for extra in self.left_out],
            "created": self.created.isoformat() if self.created else None,
        }


def _amounts(findings: Findings) -> dict[str, Any]:
    """Return the amounts of opacity, null if there are none: nobody may read them as zero."""
    if not findings.states_opacity:
        return dict.fromkeys(("lesions", "involved_percent", "lesion_ml", "extent"))
    return {
        "lesions": len(findings.lesions),
        "involved_percent": findings.total and round(findings.total.involved_percent, 2),
        "lesion_ml": round(findings.covered.lesion_ml, 2),
        "extent": findings.extent and str(findings.extent),
    }


def _lung(lung: Lung, findings: Findings) -> dict[str, Any]:
    if isinstance(lung, NotAssessable):
        return {"not_assessable": lung.reason}
    volume_ml = round(lung.volume_ml, 1)
    if not findings.states_opacity:
        return {"involved_percent": None, "lesion_ml": None, "lung_ml": volume_ml, "zones": {}}
    return {
        "involved_percent": round(lung.involved_percent, 2),
        "lesion_ml": round(lung.lesion_ml, 2),
        "lung_ml": volume_ml,
        "zones": {zone.zone.value: round(zone.involved_percent, 2) for zone in lung.zones},
    }


_WITHOUT_OUTCOME = "nothing marked; negative or indeterminate, the earlier version did not say"


def stored_findings(job: Job) -> Mapping[str, Any] | None:
    """Return the findings in the state file; None without a result.

    Earlier versions called every result without lesions "no lesion found": that is not repeated.
    """
    if not job.result:
        return None
    findings: Mapping[str, Any] = job.result["findings"]
    if "outcome" in findings or findings["lesions"]:
        return findings
    return {**findings, "verdict": _WITHOUT_OUTCOME}


def created_before(job: Job) -> datetime | None:
    """Return the time of the first analysis of a job that is analysed again.

    The same time makes the repeated objects equal byte for byte.
    """
    created = (job.result or {}).get("created")
    return datetime.fromisoformat(created) if created else None


def load_objects(job: Job) -> list[ResultObject]:
    """Return the result objects of a composed job, in the order of their delivery."""
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
    profile: Profile, extras: Collection[Extra], objects: Sequence[ResultObject]
) -> list[ResultObject]:
    """Return the objects for a destination with this profile and these ``extras``.

    Results from before the profile was configured lack its objects: the destination then gets
    those of OHIF.
    """
    roles = {item.role for item in objects}
    others = [other for other in Profile if other is not profile]
    unwanted = {role for role in roles if any(other.owns(role) for other in others)}
    if any(profile.owns(role) for role in roles):
        unwanted |= {role for role in roles if _replaces(profile, role, roles)}
    unwanted |= {str(extra) for extra in Extra if extra not in extras}
    return [item for item in objects if item.role not in unwanted]


def _replaces(profile: Profile, role: str, roles: Collection[str]) -> bool:
    """Return whether a profile has objects instead of that of ``role``, or omits it."""
    instead = {profile.role(role), profile.role(f"{role}-1")}
    return bool(instead & set(roles)) or (profile is Profile.PLAIN and is_seg(role))


def is_seg(role: str) -> bool:
    """Return whether the object of a role is a SEG of any kind."""
    return role == "seg" or role.startswith("seg-")


def sr_references(job: Job) -> dict[Profile, ResultReference]:
    """Return the SRs of a job by profile, for the SRs that replace them."""
    references = {profile: sr_reference(job, profile) or sr_reference(job) for profile in Profile}
    return {
        profile: reference for profile, reference in references.items() if reference is not None
    }


def sr_reference(job: Job, profile: Profile = Profile.OHIF) -> ResultReference | None:
    """Return the reference to the SR of a job; None when it has no SR of this profile."""
    for item in load_objects(job):
        if item.role == profile.role(SR_ROLE):
            return ResultReference(
                study_uid=item.study_uid,
                series_uid=item.series_uid,
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
            )
    return None
