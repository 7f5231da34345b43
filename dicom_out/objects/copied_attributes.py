"""The attributes of the source that results carry, and what makes each item of them valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COPIED = (
    # Patient (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    # General Study and Patient Study (PS3.3 C.7.2)
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "AdmissionID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    # SOP Common (PS3.3 C.12.1)
    "LongitudinalTemporalInformationModified",
)
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Of the copied attributes, those that a result holds even when the source lacks them."""
LOSSY_HISTORY = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
"""Whether and how the images were compressed with loss; results that are images carry it."""
TERMS: Mapping[str, frozenset[bytes]] = {
    "PatientSex": frozenset({b"M", b"F", b"O"}),
    "PatientIdentityRemoved": frozenset({b"YES", b"NO"}),
    "LongitudinalTemporalInformationModified": frozenset({b"UNMODIFIED", b"MODIFIED", b"REMOVED"}),
    "LossyImageCompression": frozenset({b"00", b"01"}),
    "TypeOfPatientID": frozenset({b"TEXT", b"RFID", b"BARCODE"}),
    "ConsentForDistributionFlag": frozenset({b"NO", b"YES", b"WITHDRAWN"}),
}
"""The enumerated values of code strings."""
_IDENTIFYING = ("ID", "IDs", "IDType", "Number", "Value", "Designator", "Version", "UID")


def is_identifier(keyword: str) -> bool:
    """Return whether an attribute identifies something, so that a part of it must not be copied."""
    return keyword.endswith(_IDENTIFYING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemForm:
    """The attributes of a sequence item that are copied.

    Attributes:
        values: The attributes, except sequences.
        sequences: The sequences with the form of their items.
        required: An item without each of these is left out.
        one_of: An item without any of these is left out.
        together: Pairs of attributes of which neither is copied without the other.
        defaults: Encoded values for attributes that the item lacks.
    """

    values: tuple[str, ...]
    sequences: Mapping[str, ItemForm] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    together: tuple[tuple[str, str], ...] = ()
    defaults: dict[str, bytes] = field(default_factory=dict)


CODE = ItemForm(  # PS3.3 table 8.8-1
    values=(
        "CodeValue",
        "LongCodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "CodeMeaning",
    ),
    required=("CodingSchemeDesignator", "CodeMeaning"),
    one_of=("CodeValue", "LongCodeValue"),
)
ISSUER = ItemForm(  # HL7v2 Hierarchic Designator, PS3.3 table 10-17
    values=("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType"),
    one_of=("LocalNamespaceEntityID", "UniversalEntityID"),
    together=(("UniversalEntityID", "UniversalEntityIDType"),),
)
SEQUENCES: Mapping[str, ItemForm] = {
    "OtherPatientIDsSequence": ItemForm(
        values=("PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
        required=("PatientID",),
        defaults={"TypeOfPatientID": b"TEXT"},
    ),
    "DeidentificationMethodCodeSequence": CODE,
    "IssuerOfAccessionNumberSequence": ISSUER,
    "ProcedureCodeSequence": CODE,
    "IssuerOfAdmissionIDSequence": ISSUER,
    "ConsentForClinicalTrialUseSequence": ItemForm(
        values=("ClinicalTrialProtocolID", "DistributionType", "ConsentForDistributionFlag"),
        required=("ConsentForDistributionFlag",),
    ),
}
REQUEST_ATTRIBUTES = ItemForm(  # PS3.3 table 10-9
    values=(
        "AccessionNumber",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepDescription",
        "StudyInstanceUID",
    ),
    sequences={
        "IssuerOfAccessionNumberSequence": ISSUER,
        "RequestedProcedureCodeSequence": CODE,
        "ScheduledProtocolCodeSequence": CODE,
    },
    one_of=("RequestedProcedureID", "ScheduledProcedureStepID", "AccessionNumber"),
)
REFERENCED_REQUEST = ItemForm(  # PS3.3 table C.17-2
    values=(
        "AccessionNumber",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "StudyInstanceUID",
    ),
    sequences={
        "IssuerOfAccessionNumberSequence": ISSUER,
        "RequestedProcedureCodeSequence": CODE,
    },
    one_of=("RequestedProcedureID", "AccessionNumber"),
    defaults={
        "AccessionNumber": b"",
        "FillerOrderNumberImagingServiceRequest": b"",
        "PlacerOrderNumberImagingServiceRequest": b"",
        "ReferencedStudySequence": b"",
        "RequestedProcedureCodeSequence": b"",
        "RequestedProcedureDescription": b"",
        "RequestedProcedureID": b"",
    },
)
"""The same requests, as a document refers to them."""
CLINICAL_TRIALS = (
    ItemForm(  # Clinical Trial Subject, PS3.3 C.7.1.3
        values=(
            "ClinicalTrialSponsorName",
            "ClinicalTrialProtocolID",
            "ClinicalTrialProtocolName",
            "ClinicalTrialSiteID",
            "ClinicalTrialSiteName",
            "ClinicalTrialSubjectID",
            "ClinicalTrialSubjectReadingID",
            "ClinicalTrialProtocolEthicsCommitteeName",
            "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
        ),
        required=("ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
        one_of=("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
        defaults={
            "ClinicalTrialProtocolName": b"",
            "ClinicalTrialSiteID": b"",
            "ClinicalTrialSiteName": b"",
        },
    ),
    ItemForm(  # Clinical Trial Study, PS3.3 C.7.2.3
        values=("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
        defaults={"ClinicalTrialTimePointID": b""},
    ),
)
"""Modules that are copied as items are: as a whole or not at all."""
EVERY_ATTRIBUTE = (
    "SpecificCharacterSet",
    "StudyInstanceUID",
    *COPIED,
    *SEQUENCES,
    *(keyword for module in CLINICAL_TRIALS for keyword in module.values),
)
"""The attributes that a result has exactly if the source has them, besides requests."""
