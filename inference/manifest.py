"""A model's contract, as its TOML manifest states it beside the ONNX file.

Example::

    name = "rales-lesions"
    version = "1"
    task = "lesions"
    file = "lesions.onnx"
    sha256 = "..."
    licence = "CC BY-NC-SA 4.0"
    classes = ["lesion"]
    activation = "sigmoid"
    threshold = 0.5

    [input]
    rows = 256
    columns = 256
    context = 3               # the slice and its neighbours
    context_mm = 3.0          # how far apart they are
    window = [-1000.0, 800.0] # HU that become 0 and 255
    clahe_clip = 7.0          # 0: none
    clahe_tiles = 8

    [presence]
    top_area_mm2 = 100.0
    slices = 3
    stride = 2
    operating_point = 0.6
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from chestct.errors import ModelError

Fraction = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputContract(_Table):
    """What the network wants to see; see :mod:`inference.preprocess`."""

    rows: PositiveInt
    columns: PositiveInt
    context: Literal[1, 3, 5, 7]
    context_mm: PositiveFloat
    window: tuple[float, float]
    clahe_clip: Annotated[float, Field(ge=0)]
    clahe_tiles: PositiveInt


class PresenceContract(_Table):
    """See :class:`inference.ports.PresenceRule`."""

    top_area_mm2: PositiveFloat
    slices: PositiveInt
    stride: PositiveInt
    operating_point: Fraction


class Manifest(_Table):
    """The whole file."""

    name: Text
    version: Text
    task: Literal["lungs", "lesions"]
    file: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: Text
    classes: tuple[str, ...]
    activation: Literal["softmax", "sigmoid", "none"]
    threshold: Fraction = 0.5
    input: InputContract
    presence: PresenceContract | None = None


_CLASSES = {"lungs": {"background", "right", "left"}, "lesions": {"lesion"}}


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ModelError: The file is missing or breaks the contract; the message names the key.
    """
    try:
        manifest = Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"cannot read the manifest {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise ModelError(f"{path}: {problems}") from error
    missing = _CLASSES[manifest.task] - set(manifest.classes)
    if missing:
        raise ModelError(f"{path}: classes lack {', '.join(sorted(missing))}")
    if len(set(manifest.classes)) < len(manifest.classes):
        raise ModelError(f"{path}: classes name one twice")
    if manifest.task == "lesions" and manifest.presence is None:
        raise ModelError(f"{path}: a lesion model needs [presence]")
    low, high = manifest.input.window
    if low >= high:
        raise ModelError(f"{path}: input.window is empty")
    return manifest
