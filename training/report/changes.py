"""The changes before or after the networks that the report tries, one at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.networks.manifest import InputContract, PatchContract
from inference.networks.session import OnnxModel

AS_SHIPPED = "as shipped"

HuPlanes = NDArray[np.float32]
HuChange = Callable[[HuPlanes], HuPlanes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A single change before or after the networks.

    Attributes:
        contract: Fields of the manifest's input that are replaced.
        output: Fields of the manifest's output, likewise.
        planes: Applied to the HU (slice, row, column) of the scan.
    """

    name: str
    contract: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    planes: HuChange = lambda hu: hu


def changes(contract: InputContract | PatchContract) -> tuple[Change, ...]:
    """Return the changes to try, around the shipped ``contract`` of the lesion model."""
    window = contract.window
    low, high = window
    windows = [
        (f"window {name}", (low + lower, high + upper))
        for name, lower, upper in (
            ("100 HU lower", -100, -100),
            ("100 HU higher", 100, 100),
            ("400 HU wider", -200, 200),
            ("400 HU narrower", 200, -200),
        )
    ]
    scans = [
        *((f"gamma {value:g}", _gamma(window, value)) for value in (0.8, 1.25)),
        *((f"blur, sigma {sigma:g} pixels", _blur(sigma)) for sigma in (1.0, 2.0)),
        *((f"noise, SD {sd:g} HU", _noise(sd)) for sd in (30.0, 80.0)),
    ]
    return (
        Change(name=AS_SHIPPED),
        Change(name="lesions of any density", output={"minimum_lesion_hu": None}),
        *(Change(name=name, contract={"window": value}) for name, value in windows),
        *(Change(name=name, planes=value) for name, value in scans),
    )


def _gamma(window: tuple[float, float], gamma: float) -> HuChange:
    """Apply gamma within the window; clip values outside, as the window does."""
    low, high = window

    def bend(hu: HuPlanes) -> HuPlanes:
        part = np.clip((hu - low) / (high - low), 0, 1)
        return np.asarray(low + (high - low) * part**gamma, dtype=np.float32)

    return bend


def _blur(sigma: float) -> HuChange:
    return lambda hu: np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in hu])


def _noise(sd: float) -> HuChange:
    def add(hu: HuPlanes) -> HuPlanes:
        random = np.random.default_rng(1)
        return hu + random.normal(0, sd, hu.shape).astype(np.float32)

    return add


def changed_volume(volume: Volume, change: Change) -> Volume:
    """Return the scan with other HU."""
    hu = change.planes(volume.hu.astype(np.float32))
    return replace(volume, hu=np.clip(np.round(hu), -1024, 32767).astype(np.int16))


def changed_model(model: OnnxModel, change: Change) -> OnnxModel:
    """Return the same network behind another contract."""
    changed = copy.copy(model)
    manifest = model.manifest
    changed.manifest = manifest.model_copy(
        update={
            "input": manifest.input.model_copy(update=dict(change.contract)),
            "output": manifest.output.model_copy(update=dict(change.output)),
        }
    )
    return changed
