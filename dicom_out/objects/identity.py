"""Who made the results, as equipment, algorithm and observer."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highdicom as hd

from chestct.results import ModelIdentity
from chestct.uids import Uid, derive_uid
from dicom_out.objects import codes

MANUFACTURER = "Rales"
RESEARCH = "AI-made, research use only"
"""Part of every Series Description."""
_LO = 64
"""Characters in a Long String (PS3.5 section 6.2)."""


def ascii_text(text: str) -> str:
    """Return ``text`` in ASCII: a result has the character set of its source, whatever it is."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()


def _long_string(text: str) -> str:
    """Return what a manifest says, cut to a Long String."""
    return ascii_text(text)[:_LO]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareIdentity:
    """The software and the node that ran it; ``station_name`` is its AE title."""

    name: str
    version: str
    station_name: str


def device_uid(model: ModelIdentity) -> Uid:
    """Return the Device UID of a model: a new one when the model changes (IHE AIR)."""
    return derive_uid("device", model.digest)


def observer_uid(models: Sequence[ModelIdentity]) -> Uid:
    """Return the Device UID of the observer: this software with these models."""
    return derive_uid("observer", *(model.digest for model in models))


def contributing_equipment(
    models: Sequence[ModelIdentity], software: SoftwareIdentity
) -> list[hd.ContributingEquipment]:
    """Return one item per algorithm (PS3.3 C.12.1, IHE AIR)."""
    items = []
    for model in models:
        item = hd.ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=codes.PROCESSING_EQUIPMENT,
            manufacturer_model_name=_long_string(model.name),
            software_versions=[_long_string(model.version), f"{software.name} {software.version}"],
            station_name=software.station_name,
            contribution_description="Segmentation and measurement by artificial intelligence",
        )
        item.DeviceUID = device_uid(model)
        items.append(item)
    return items


def algorithm(
    model: ModelIdentity, parameters: Mapping[str, str]
) -> hd.AlgorithmIdentificationSequence:
    """Return the identification of one algorithm (PS3.3 table 10-19)."""
    return hd.AlgorithmIdentificationSequence(
        name=_long_string(model.name),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=_long_string(model.version),
        source=MANUFACTURER,
        parameters=_stated(model, parameters),
    )


def reported_algorithm(
    model: ModelIdentity, parameters: Mapping[str, str]
) -> hd.sr.AlgorithmIdentification:
    """Return the identification of one algorithm in a report (TID 4019)."""
    return hd.sr.AlgorithmIdentification(
        name=ascii_text(model.name),
        version=ascii_text(model.version),
        parameters=[f"{name}={value}" for name, value in _stated(model, parameters).items()],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def _stated(model: ModelIdentity, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters with the digest of the model, which names it beyond its version."""
    return {**parameters, "model_sha256": model.digest}
