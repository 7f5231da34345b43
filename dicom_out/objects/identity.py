"""The software and the models, as equipment, algorithm and observer of a result."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import highdicom as hd
from pydicom.dataset import Dataset

from chestct.results import ModelIdentity, SoftwareIdentity
from chestct.uids import Uid, derive_uid, digest
from dicom_out.objects import codes

MANUFACTURER = "Rales"
RESEARCH = "AI-made, research use only"
"""Part of every Series Description."""
_SERIAL_DIGITS = 16
_LO = 64
"""Characters in a Long String (PS3.5 section 6.2)."""


def ascii_text(text: str) -> str:
    """Return ``text`` in ASCII: valid in the character set of every source."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()


def _long_string(text: str) -> str:
    """Return a text of a manifest, cut to a Long String."""
    return ascii_text(text)[:_LO]


def set_equipment(
    dataset: Dataset, models: Sequence[ModelIdentity], software: SoftwareIdentity
) -> None:
    """Fill in the General Equipment attributes (PS3.3 C.7.5.1) besides Manufacturer."""
    dataset.StationName = software.station_name
    dataset.ManufacturerModelName = software.name
    dataset.SoftwareVersions = software.version
    dataset.DeviceSerialNumber = serial_number(models, software)


def serial_number(models: Sequence[ModelIdentity], software: SoftwareIdentity) -> str:
    """Return the Device Serial Number: it stands for this node with this software and models.

    Software has no number of a factory. The digest changes when one of the three does.
    """
    parts = (software.station_name, software.version, *(model.digest for model in models))
    return digest(parts)[:_SERIAL_DIGITS]


def contributing_equipment(
    models: Sequence[ModelIdentity], software: SoftwareIdentity
) -> list[hd.ContributingEquipment]:
    """Return one item per model (PS3.3 C.12.1, IHE AIR)."""
    items = []
    for model in models:
        item = hd.ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=codes.PROCESSING_EQUIPMENT,
            manufacturer_model_name=_long_string(model.name),
            software_versions=[_long_string(model.version), software.title],
            station_name=software.station_name,
            contribution_description="Segmentation and measurement by artificial intelligence",
        )
        item.DeviceUID = _device_uid(model)
        items.append(item)
    return items


def _device_uid(model: ModelIdentity) -> Uid:
    """Return the Device UID of a model: a new UID when the model changes (IHE AIR)."""
    return derive_uid("device", model.digest)


def observer_uid(models: Sequence[ModelIdentity]) -> Uid:
    """Return the Device UID of the observer: this software with these models."""
    return derive_uid("observer", *(model.digest for model in models))


def device_observer(
    models: Sequence[ModelIdentity], software: SoftwareIdentity
) -> hd.sr.ObserverContext:
    """Return this software with these models as the device that observed (TID 1004)."""
    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=observer_uid(models),
        name=software.station_name,
        manufacturer_name=MANUFACTURER,
        model_name=software.title,
    )
    return hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept.from_code(codes.DEVICE),
        observer_identifying_attributes=attributes,
    )


def segment_algorithm(
    model: ModelIdentity, parameters: Mapping[str, str]
) -> hd.AlgorithmIdentificationSequence:
    """Return the algorithm of a segment (PS3.3 table 10-19)."""
    return hd.AlgorithmIdentificationSequence(
        name=_long_string(model.name),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=_long_string(model.version),
        source=MANUFACTURER,
        parameters=_with_digest(model, parameters),
    )


def reported_algorithm(
    model: ModelIdentity, parameters: Mapping[str, str]
) -> hd.sr.AlgorithmIdentification:
    """Return the algorithm of a measurement group (TID 4019)."""
    return hd.sr.AlgorithmIdentification(
        name=ascii_text(model.name),
        version=ascii_text(model.version),
        parameters=[f"{name}={value}" for name, value in _with_digest(model, parameters).items()],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def _with_digest(model: ModelIdentity, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters with the digest of the model, which identifies its exact weights."""
    return {**parameters, "model_sha256": model.digest}
