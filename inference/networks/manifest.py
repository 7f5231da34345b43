"""The manifest of a model: the TOML file beside the ONNX file that states its contract.

docs/models.md explains every key and has complete examples. In short::

    name = "rales-lesions"
    version = "2"
    task = "lesions"                    # or "lungs"
    file = "lesions.onnx"
    sha256 = "..."
    licence = "CC BY-NC-SA 4.0"
    classes = ["lesion"]                # the network's output channels, in order
    activation = "sigmoid"              # turns its outputs into probabilities
    threshold = 0.5

    [input]                             # of a network of slices; see PatchContract for 3D
    rows = 256
    columns = 256
    context = 3                         # the slice and its neighbours
    context_mm = 4.0                    # how far apart they are
    window = [-1024.0, 400.0]           # HU
    crop = "body"                       # read the body alone; default: the whole image
    spacing = [1.35, 1.35]              # pixel size, mm; default: the image is resized
    mirror = true                       # read a second time, mirrored, and average
    coarsest_mm = 1.8                   # scans with larger pixels are rejected; default: none

    [presence]
    certainty = 0.98
    volume_ml = 2.5
    stride = 1

    [output]
    minimum_lesion_ml = 0.5
    minimum_lesion_hu = -750.0          # less dense lung is not lesion; default: no limit

    [selftest.original]                 # written by: rales model reference lesions.toml
    tolerance = 0.02
    probabilities = "..."
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
Text = Annotated[str, Field(min_length=1)]
Arithmetic = Literal["original", "fp16", "int8"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Input(_Table):
    """The input that slice and patch networks have in common.

    HU are clipped to ``window``; its ends become the two ``values``. Alternatively ``mean`` and
    ``std`` (HU) give a z-score: (HU - mean) / std. With ``mirror`` the network reads the patient
    a second time, mirrored, and the probabilities are averaged; this doubles the time. Scans
    with larger pixels than ``coarsest_mm`` are rejected (default: none).
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
            raise ValueError("the window is empty: write the lower HU first, then the higher")
        return window

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std (HU) belong together: set both or neither")
        if self.mean is not None and "values" in self.model_fields_set:
            raise ValueError("values and mean/std exclude each other: remove one of them")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The network's values at the ends of the window."""
        if self.mean is None or self.std is None:
            return self.values
        low, high = self.window
        return ((low - self.mean) / self.std, (high - self.mean) / self.std)


class InputContract(_Input):
    """The input (n, context, rows, columns) of a 2D network (see the module ``preprocess``)."""

    kind: Literal["slices"] = "slices"
    rows: PositiveInt
    columns: PositiveInt
    context: Literal[1, 3, 5, 7]
    context_mm: PositiveFloat
    spacing: tuple[PositiveFloat, PositiveFloat] | None = None
    """Pixel size, mm along (row, column); None: the whole image is resized to the input."""
    crop: Literal["body"] | None = None
    """``body``: the network reads the body alone, in pixels of ``spacing`` and slabs of about 3 mm,
    with air around it; rows and columns follow the size of the patient. None: the whole image."""
    clahe_clip: Annotated[float, Field(ge=0)] = 0.0
    clahe_tiles: PositiveInt = 8

    @model_validator(mode="after")
    def _crop_has_a_pixel_size(self) -> Self:
        if self.crop is not None and self.spacing is None:
            raise ValueError("crop needs the pixel size of the network: add spacing (mm)")
        return self


class PatchContract(_Input):
    """The input (n, 1, slices, rows, columns) of a 3D network that slides over the volume.

    ``spacing`` is the voxel size in mm along (slice, row, column); None: the volume's own.
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
    """The parts that are dropped from the mask: small connected lesions and aerated lung."""

    minimum_lesion_ml: Annotated[float, Field(ge=0)] = 0.5
    minimum_lesion_hu: float | None = None


class Variant(_Table):
    """The same network in other arithmetic, in its own file."""

    file: Text
    sha256: Digest


class Reference(_Table):
    """The outputs of one variant in the self-test (:mod:`inference.networks.selftest`).

    Attributes:
        tolerance: The largest difference of a probability that is not an error.
        probabilities: The probabilities at the compared positions, class by class: bytes of
            255 levels in base64.
    """

    tolerance: Annotated[float, Field(gt=0, lt=1)]
    probabilities: Text


def _kind(value: Any) -> str:
    kind = value.get("kind", "slices") if isinstance(value, dict) else value.kind
    return str(kind)


class Manifest(_Table):
    """The whole file.

    Attributes:
        classes: Names of the network's output channels, in order.
        labels: The channels that make up each class of the task: ``right`` and ``left`` of
            lungs, ``lesion`` of lesions. Needed only where ``classes`` have other names.
        card: Name of the model card beside the manifest.
        variants: The same network in 16-bit floats (``fp16``), which GPUs take, and in 8-bit
            integers (``int8``), which CPUs take.
        selftest: The outputs of each variant in the self-test; ``original`` is :attr:`file`.
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
    selftest: dict[Arithmetic, Reference] = {}

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        _require_classes(self)
        if self.task == "lesions" and self.presence is None:
            raise ValueError("a lesion model needs [presence]")
        if self.activation == "softmax" and len(self.classes) == 1:
            raise ValueError("softmax over one class is always 1: set activation = 'sigmoid'")
        return self

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of every file that the manifest names."""
        return {self.file: self.sha256} | {
            variant.file: variant.sha256 for variant in self.variants.values()
        }

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
        raise ValueError("classes contain a name twice")
    given = set(manifest.labels) if manifest.labels else set(manifest.classes) & wanted
    missing = sorted(wanted - given)
    if missing:
        side = " A lung network needs a class for each lung." if manifest.task == "lungs" else ""
        raise ValueError(
            f"classes lack {', '.join(missing)}.{side} "
            f"List the channels that make up {' and '.join(missing)} in [labels]"
        )
    for name, members in manifest.labels.items():
        if name not in wanted:
            raise ValueError(
                f"labels.{name} is unknown: a model of {manifest.task} has {sorted(wanted)}"
            )
        unknown = sorted(set(members) - set(manifest.classes))
        if unknown or not members:
            raise ValueError(
                f"labels.{name} must list names of classes, not {unknown or 'nothing'}"
            )
    every = [member for members in manifest.labels.values() for member in members]
    if len(set(every)) < len(every):
        raise ValueError("labels use a name of classes twice")


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
        problems = "; ".join(_problem(problem) for problem in error.errors(include_url=False))
        raise ModelError(f"{path}: {problems}") from error


def _problem(problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    if place[:1] == ["input"]:
        del place[1:2]  # pydantic's tag for the kind of input is not a key of the file
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message}" if place else message
