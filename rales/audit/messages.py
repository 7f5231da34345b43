"""Audit messages as records, and their XML (PS3.15 sections A.5.1, A.5.2)."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from xml.etree import ElementTree as ET

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNKNOWN = "unknown"
_LONGEST = 1024
"""Characters of one value; its XML may be five times as long (``&amp;``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded value; ``system`` is a coding scheme designator."""

    value: str
    meaning: str
    system: str = "DCM"


class Action(StrEnum):
    """EventActionCode (PS3.15 table A.5.2-1)."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    EXECUTE = "E"


class EventOutcome(StrEnum):
    """EventOutcomeIndicator (PS3.15 table A.5.2-1)."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"


# PS3.16 CID 400 Audit Event ID and CID 401 Audit Event Type Code.
APPLICATION_ACTIVITY = Code(value="110100", meaning="Application Activity")
BEGIN_TRANSFERRING = Code(value="110102", meaning="Begin Transferring DICOM Instances")
TRANSFERRED = Code(value="110104", meaning="DICOM Instances Transferred")
NETWORK_ENTRY = Code(value="110108", meaning="Network Entry")
SECURITY_ALERT = Code(value="110113", meaning="Security Alert")
APPLICATION_START = Code(value="110120", meaning="Application Start")
APPLICATION_STOP = Code(value="110121", meaning="Application Stop")
ATTACH = Code(value="110124", meaning="Attach")
DETACH = Code(value="110125", meaning="Detach")
NODE_AUTHENTICATION = Code(value="110126", meaning="Node Authentication")
RECORDING_STARTED = Code(value="110134", meaning="Audit Recording Started")
# PS3.16 CID 402 Audit Active Participant Role ID Code.
APPLICATION = Code(value="110150", meaning="Application")
DESTINATION = Code(value="110152", meaning="Destination Role ID")
SOURCE = Code(value="110153", meaning="Source Role ID")
# PS3.16 CID 404 Audit Participant Object ID Type Code; PS3.15 section A.5.1.2.4.
STUDY_UID = Code(value="110180", meaning="Study Instance UID")
NODE_ID = Code(value="110182", meaning="Node ID")
PATIENT_NUMBER = Code(value="2", meaning="Patient Number", system="RFC-3881")


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """An application that took part; ``address`` is a host name or an IP address."""

    user_id: str
    ae_title: str
    address: str
    is_requestor: bool
    role: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedPatient:
    """The patient of the instances; empty if the patient is unknown."""

    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedStudy:
    """The study of the instances, with their number by SOP Class UID."""

    uid: str
    instances: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The node that caused a security alert, and the reason."""

    node: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One audit message; the event decides which parts it has (PS3.15 section A.5.3)."""

    event: Code
    action: Action
    at: datetime
    participants: tuple[Participant, ...]
    kind: Code | None = None
    outcome: EventOutcome = EventOutcome.SUCCESS
    description: str = ""
    study: AuditedStudy | None = None
    patient: AuditedPatient | None = None
    alert: Alert | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSource:
    """The reporting system (AuditSourceIdentification); ``site`` may be empty."""

    id: str
    site: str


def to_xml(event: AuditEvent, source: AuditSource) -> str:
    """Return an AuditMessage (schema of PS3.15 section A.5.1.1) without XML declaration."""
    root = ET.Element("AuditMessage")
    _identify(root, event)
    for participant in event.participants:
        _add_participant(root, participant)
    attributes = {"AuditSourceID": source.id}
    if source.site:
        attributes["AuditEnterpriseSiteID"] = source.site
    reporter = _add(root, "AuditSourceIdentification", attributes)
    _add(reporter, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    if event.study:
        _add_study(root, event.study)
    if event.patient:
        _add_patient(root, event.patient)
    if event.alert:
        _add_alert(root, event.alert)
    return ET.tostring(root, encoding="unicode")


def _add(parent: ET.Element, name: str, attributes: Mapping[str, str]) -> ET.Element:
    clean = {key: _bounded(value) for key, value in attributes.items()}
    return ET.SubElement(parent, name, clean)


def _add_text(parent: ET.Element, name: str, text: str) -> None:
    _add(parent, name, {}).text = _bounded(text)


def _bounded(value: str) -> str:
    """Return a value cut to the longest length, without the characters that XML forbids."""
    cut = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    return _NOT_XML.sub("?", cut)


def _add_code(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {
        "csd-code": code.value,
        "codeSystemName": code.system,
        "originalText": code.meaning,
    }
    _add(parent, name, attributes)


def _identify(root: ET.Element, event: AuditEvent) -> None:
    """Add EventIdentification; EventDateTime has a time zone (section A.5.2.5)."""
    element = _add(
        root,
        "EventIdentification",
        {
            "EventActionCode": event.action,
            "EventDateTime": event.at.isoformat(timespec="milliseconds"),
            "EventOutcomeIndicator": event.outcome,
        },
    )
    _add_code(element, "EventID", event.event)
    if event.kind:
        _add_code(element, "EventTypeCode", event.kind)
    if event.description:
        _add_text(element, "EventOutcomeDescription", event.description)


def _add_participant(root: ET.Element, participant: Participant) -> None:
    """Add an ActiveParticipant; AlternativeUserID holds the AE title (section A.5.2.2)."""
    attributes = {
        "UserID": participant.user_id,
        "AlternativeUserID": f"AETITLES={participant.ae_title}",
        "UserIsRequestor": "true" if participant.is_requestor else "false",
    }
    if participant.address:
        attributes["NetworkAccessPointID"] = participant.address
        attributes["NetworkAccessPointTypeCode"] = _access_point_type(participant.address)
    element = _add(root, "ActiveParticipant", attributes)
    if participant.role:
        _add_code(element, "RoleIDCode", participant.role)


def _access_point_type(address: str) -> str:
    """Return 2 for an IP address, 1 for a machine name (section A.5.1.1)."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "1"
    return "2"


def _add_object(
    root: ET.Element, identifier: str, kind: tuple[str, str], type_code: Code, name: str
) -> ET.Element:
    """Add a ParticipantObjectIdentification; ``kind`` is its type code and role."""
    attributes = {
        "ParticipantObjectID": identifier or _UNKNOWN,
        "ParticipantObjectTypeCode": kind[0],
        "ParticipantObjectTypeCodeRole": kind[1],
    }
    element = _add(root, "ParticipantObjectIdentification", attributes)
    _add_code(element, "ParticipantObjectIDTypeCode", type_code)
    _add_text(element, "ParticipantObjectName", name or _UNKNOWN)
    return element


def _add_study(root: ET.Element, study: AuditedStudy) -> None:
    element = _add_object(root, study.uid, ("2", "3"), STUDY_UID, study.uid)
    description = _add(element, "ParticipantObjectDescription", {})
    for sop_class, count in study.instances.items():
        _add(description, "SOPClass", {"UID": sop_class, "NumberOfInstances": str(count)})


def _add_patient(root: ET.Element, patient: AuditedPatient) -> None:
    _add_object(root, patient.id, ("1", "1"), PATIENT_NUMBER, patient.name)


def _add_alert(root: ET.Element, alert: Alert) -> None:
    """Add the node of an alert; the description is a base64 detail (section A.5.3.11)."""
    element = _add_object(root, alert.node, ("2", "13"), NODE_ID, alert.node)
    description = _bounded(alert.description).encode()[: _LONGEST // 2].decode(errors="ignore")
    value = base64.b64encode(description.encode()).decode()
    _add(element, "ParticipantObjectDetail", {"type": "Alert Description", "value": value})
