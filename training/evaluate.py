"""Measures the shipped models, through their ONNX files and manifests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError
from inference.networks.manifest import PatchContract
from inference.networks.session import OnnxModel
from training.data import SliceSet, patient_of
from training.metrics import dice

_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientScore:
    """The Dice coefficients over all slices of a patient."""

    patient: int
    slices: int
    lung_dice: float
    lesion_dice: float


def probabilities_of_slices(model: OnnxModel, data: SliceSet) -> NDArray[np.float32]:
    """Return (n, classes, rows, columns) for 8-bit slices, which enter the network as they are.

    The neighbours of a slice are the adjacent slices of its volume.

    Raises:
        ModelError: It is a 3D network, which needs a volume with known slice spacing.
    """
    contract = model.manifest.input
    if isinstance(contract, PatchContract):
        raise ModelError(
            f"{model.manifest.name} is a 3D network: it cannot read slices of unknown spacing"
        )
    reach = contract.context // 2
    found = []
    for start in range(0, len(data.volumes), _BATCH):
        chosen = np.arange(start, min(start + _BATCH, len(data.volumes)))
        steps = range(-reach, reach + 1)
        planes = [data.images[data.neighbour(chosen, step)] for step in steps]
        found.append(model.run(np.stack(planes, axis=1).astype(np.float32) / np.float32(255)))
    return np.concatenate(found)


def predict_slices(model: OnnxModel, data: SliceSet) -> NDArray[np.bool_]:
    """Return masks (n, rows, columns) of the lungs, or of the lesions, of 8-bit slices."""
    found = probabilities_of_slices(model, data)
    # Right and left lung together, or lesion.
    mask: NDArray[np.bool_] = found.sum(axis=1) >= model.threshold
    return mask


def score_slices(lungs: OnnxModel, lesions: OnnxModel, data: SliceSet) -> list[PatientScore]:
    """Score the models on a file of slices, by patient.

    As in the product, a lesion counts only inside the predicted lungs.
    """
    lung = predict_slices(lungs, data)
    lesion = predict_slices(lesions, data) & lung
    patients = np.array([patient_of(int(volume)) for volume in data.volumes])
    return [
        PatientScore(
            patient=int(patient),
            slices=int(chosen.sum()),
            lung_dice=dice(lung[chosen], data.lungs[chosen] > 0),
            lesion_dice=dice(lesion[chosen], data.lesions[chosen]),
        )
        for patient in np.unique(patients)
        for chosen in [patients == patient]
    ]
