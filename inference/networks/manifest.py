"""A model's contract, as its TOML manifest states it beside the ONNX file.

docs/models.md explains every key and has complete examples. In short::

    name = "rales-lesions"
    version = "2"
    task = "lesions"                    # or "lungs"
    file = "lesions.onnx"
    sha256 = "..."
    licence = "CC BY-NC-SA 4.0"
    classes = ["lesion"]                # the network's output channels, in order
    activation = "sigmoid"              # what turns its outputs into probabilities
    threshold = 0.5

    [input]                             # of a network of slices; see PatchContract for 3D
    rows = 256
    columns = 256
    context = 3                         # the slice and its neighbours
    context_mm = 4.0                    # how far apart they are
    window = [-1024.0, 600.0]           # HU
    mirror = true                       # read a second time, mirrored, and averaged
    outline_spacing = [1.35, 1.35]      # lesions are outlined on pixels of this size, mm, too
    coarsest_mm = 1.8                   # scans of larger pixels are not analysed; without: all are
    clahe_clip = 7.0                    # 0: none
    clahe_tiles = 8

    [presence]
    certainty = 0.98
    volume_ml = 2.5
    stride = 2

    [output]
    minimum_lesion_ml = 0.1
    minimum_lesion_hu = -750.0          # aerated lung is no lesion; without: density is not asked
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from chestct.errors import ModelError

Fraction = Annotated[float, Field(ge=0, le=1)]
FinePixel = Annotated[float, Field(ge=0.2)]
Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Input(_Table):
    """What every network is given.

    HU are clipped to ``window``; its ends become the two ``values``. ``mean`` and ``std``
    (HU) stand for a z-score instead: (HU - mean) / std. With ``mirror`` the network reads the
    patient a second time, mirrored, and what it says is averaged: twice the time. A scan whose
    pixels are wider or higher than ``coarsest_mm`` is not read (none: every scan is).
    """

    window: tuple[float, float]
    values: tuple[float, float] = (0.0, 1.0)
    mean: float | None = None
    std: PositiveFloat | None = None
    mirror: bool = False
    coarsest_mm: PositiveFloat | None = None

    @field_validator("window")
    @classmethod
    def _lower_end_first(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[0] >= window[1]:
            raise ValueError("the window is empty: its first value is the lower one, in HU")
        return window

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std (HU) belong together")
        if self.mean is not None and "values" in self.model_fields_set:
            raise ValueError("values and mean/std exclude each other")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """What the ends of the window become."""
        if self.mean is None or self.std is None:
            return self.values
        low, high = self.window
        return ((low - self.mean) / self.std, (high - self.mean) / self.std)


class InputContract(_Input):
    """A network of (n, context, rows, columns); see :mod:`inference.networks.preprocess`."""

    kind: Literal["slices"] = "slices"
    rows: PositiveInt
    columns: PositiveInt
    context: Literal[1, 3, 5, 7]
    context_mm: PositiveFloat
    spacing: tuple[PositiveFloat, PositiveFloat] | None = None
    """Size of a pixel, mm along (row, column); none: the whole image becomes the input."""
    outline_spacing: tuple[FinePixel, FinePixel] | None = None
    """Size of a pixel, mm along (row, column), in one more reading, mirrored, of the whole image:
    lesions are outlined on the mean of this one and what decided on their presence; none: there
    is no such reading. The network must take any number of rows and columns."""
    clahe_clip: Annotated[float, Field(ge=0)] = 0.0
    clahe_tiles: PositiveInt = 8


class PatchContract(_Input):
    """A 3D network, (n, 1, slices, rows, columns), that slides over the volume.

    ``spacing`` is the voxel size in mm along (slice, row, column); none: the volume's own.
    See :mod:`inference.networks.patches`.
    """

    kind: Literal["patch"]
    patch: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    blending: Literal["gaussian", "constant"] = "gaussian"


class PresenceContract(_Table):
    """See :class:`inference.ports.PresenceRule`."""

    certainty: Fraction
    volume_ml: PositiveFloat
    stride: PositiveInt


class OutputContract(_Table):
    """What is left out of the mask: small connected lesions, and lung that is full of air."""

    minimum_lesion_ml: Annotated[float, Field(ge=0)] = 0.1
    minimum_lesion_hu: float | None = None


class Variant(_Table):
    """The same network in other arithmetic, in a file of its own."""

    file: Text
    sha256: Digest


def _kind(value: Any) -> str:
    kind = value.get("kind", "slices") if isinstance(value, dict) else value.kind
    return str(kind)


class Manifest(_Table):
    """The whole file.

    Attributes:
        classes: Names of the network's output channels, in order.
        labels: Which channels make up each class of the task, where their names differ:
            ``right`` and ``left`` of lungs, ``lesion`` of lesions. Without it, ``classes``
            hold those names themselves.
        card: Name of the model card beside the manifest.
        variants: The same network in 16-bit floats (``fp16``), which GPUs take, and in 8-bit
            integers (``int8``), which CPUs take.
    """

    name: Text
    version: Text
    task: Literal["lungs", "lesions"]
    file: Text
    sha256: Digest
    licence: Text
    description: str = ""
    card: Text | None = None
    classes: Annotated[tuple[Text, ...], Field(min_length=1)]
    activation: Literal["softmax", "sigmoid", "none"]
    threshold: Fraction = 0.5
    labels: dict[str, tuple[Text, ...]] = {}
    input: Annotated[
        Annotated[InputContract, Tag("slices")] | Annotated[PatchContract, Tag("patch")],
        Discriminator(_kind),
    ]
    presence: PresenceContract | None = None
    output: OutputContract = OutputContract()
    variants: dict[Literal["fp16", "int8"], Variant] = {}

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        _require_classes(self)
        if self.task == "lesions" and self.presence is None:
            raise ValueError("a lesion model needs [presence]")
        outlined = isinstance(self.input, InputContract) and self.input.outline_spacing
        if self.task == "lungs" and outlined:
            raise ValueError("input.outline_spacing is of lesion models: lungs are read once")
        if self.activation == "softmax" and len(self.classes) == 1:
            raise ValueError("softmax over one class is always 1; activation = 'sigmoid'?")
        return self

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of every file that the manifest names."""
        return {self.file: self.sha256} | {one.file: one.sha256 for one in self.variants.values()}

    @property
    def channels(self) -> dict[str, tuple[int, ...]]:
        """The network's channels behind each class of the task."""
        labels = self.labels or {name: (name,) for name in _WANTED[self.task]}
        return {
            name: tuple(self.classes.index(member) for member in members)
            for name, members in labels.items()
        }


_WANTED = {"lungs": ("right", "left"), "lesions": ("lesion",)}


def _require_classes(manifest: Manifest) -> None:
    wanted = set(_WANTED[manifest.task])
    if len(set(manifest.classes)) < len(manifest.classes):
        raise ValueError("classes name one twice")
    given = set(manifest.labels) if manifest.labels else set(manifest.classes) & wanted
    missing = sorted(wanted - given)
    if missing:
        side = " Rales tells the lungs apart, so a network with one class for both will not do;"
        raise ValueError(
            f"classes lack {', '.join(missing)}.{side if manifest.task == 'lungs' else ''} "
            f"[labels] can say which channels make up {' and '.join(missing)}"
        )
    for name, members in manifest.labels.items():
        if name not in wanted:
            raise ValueError(f"labels.{name}: a model of {manifest.task} has {sorted(wanted)}")
        unknown = sorted(set(members) - set(manifest.classes))
        if unknown or not members:
            raise ValueError(f"labels.{name}: {unknown or 'nothing'} is not among classes")
    every = [member for members in manifest.labels.values() for member in members]
    if len(set(every)) < len(every):
        raise ValueError("labels use one of classes twice")


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ModelError: The file is missing or breaks the contract; the message names the key.
    """
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"cannot read the manifest {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(_problem(one) for one in error.errors(include_url=False))
        raise ModelError(f"{path}: {problems}") from error


def _problem(problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    if place[:1] == ["input"]:
        del place[1:2]  # the kind of the input: pydantic's tag, not a key of the file
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message}" if place else message
