"""The ONNX Runtime edge: models with their manifests, on the best provider there is."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

# ONNX Runtime's builds on PyPI report use to their maker and keep a file for it in the home
# folder, unless told not to before the import. A hospital's node calls nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from scipy.special import expit

from chestct.errors import ModelError
from chestct.results import ModelIdentity
from chestct.volume import Volume
from inference.networks.manifest import Manifest, PatchContract, read_manifest
from inference.networks.patches import PatchReader
from inference.networks.preprocess import covering
from inference.networks.slices import SliceReader
from inference.ports import Box, ModelSet, PresenceRule, Reader

_LOG = logging.getLogger(__name__)

PROVIDERS = {
    "TensorRT": "TensorrtExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "CPU": "CPUExecutionProvider",
}
"""The names that people write, and ONNX Runtime's."""

_VARIANTS: dict[str, Literal["fp16", "int8"]] = {"TensorRT": "fp16", "CUDA": "fp16", "CPU": "int8"}


class _ProviderUnusable(ModelError):
    """ONNX Runtime was built with the provider, but it does not start on this machine."""


def available_providers(wanted: Sequence[str]) -> list[str]:
    """Return those of ``wanted`` (names as in :data:`PROVIDERS`) that ONNX Runtime has.

    Having one does not mean that its libraries and driver are there.

    Raises:
        ModelError: A name is unknown, or none is available.
    """
    for name in wanted:
        if name not in PROVIDERS:
            raise ModelError(f"unknown provider {name!r}; known: {', '.join(PROVIDERS)}")
    available = ort.get_available_providers()
    found = [name for name in wanted if PROVIDERS[name] in available]
    if not found:
        raise ModelError(f"none of {', '.join(wanted)} is available; ONNX Runtime has {available}")
    return found


class OnnxModel:
    """One network behind its manifest; a :class:`inference.ports.SegmentationModel`."""

    def __init__(
        self,
        manifest: Manifest,
        content: bytes,
        *,
        provider: str,
        threads: int,
        variant: str = "",
    ) -> None:
        """Load ``content``; ``threads`` 0 lets ONNX Runtime choose.

        ``variant`` says which of the manifest's variants it is, if any.

        Raises:
            ModelError: The network does not load on the provider, or its inputs and outputs
                are not those of the manifest.
        """
        self.manifest = manifest
        self.variant = variant
        self.size = len(content)
        self._digest = hashlib.sha256(content).hexdigest()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                content,
                options,
                providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["CPU"]])),
            )
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise ModelError(f"{manifest.file} does not load: {error}") from error
        chosen = self._session.get_providers()[0]
        if chosen != PROVIDERS[provider]:
            raise _ProviderUnusable(
                f"{manifest.file} does not run on {provider}: ONNX Runtime fell back to {chosen}. "
                "Check the driver and CUDA libraries, or set analysis.providers."
            )
        self._check_shapes()

    @property
    def identity(self) -> ModelIdentity:
        """Who made the labels."""
        manifest = self.manifest
        return ModelIdentity(
            name=manifest.name,
            version="-".join(part for part in (manifest.version, self.variant) if part),
            digest=self._digest,
            licence=manifest.licence,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in order: right and left, or lesion."""
        return tuple(self.manifest.channels)

    @property
    def threshold(self) -> float:
        """The probability from which on a voxel belongs to a class."""
        return self.manifest.threshold

    @property
    def presence(self) -> PresenceRule | None:
        """The rule for the presence decision."""
        rule = self.manifest.presence
        return PresenceRule(**rule.model_dump()) if rule else None

    @property
    def minimum_lesion_ml(self) -> float:
        """Connected lesions smaller than this are to be dropped."""
        return self.manifest.output.minimum_lesion_ml

    @property
    def minimum_lesion_hu(self) -> float | None:
        """Voxels that are less dense than this are no lesion; None: density is not asked."""
        return self.manifest.output.minimum_lesion_hu

    @property
    def coarsest_mm(self) -> float | None:
        """The largest pixels that it can read, mm; None: any."""
        return self.manifest.input.coarsest_mm

    def reader(self, volume: Volume, box: Box | None = None) -> Reader:
        """Return a reader of the volume; only what lies in ``box`` matters (none: all)."""
        contract = self.manifest.input
        if isinstance(contract, PatchContract):
            return PatchReader(volume, contract, self.run, box)
        return SliceReader(volume, contract, self.run, box if self._any_size else None)

    def outline_reader(self, volume: Volume, box: Box | None = None) -> Reader | None:
        """Return the reader whose mean with the other outlines lesions, if there is one."""
        contract = self.manifest.input
        if isinstance(contract, PatchContract) or contract.outline_spacing is None:
            return None
        again = covering(volume.geometry, contract, contract.outline_spacing)
        return SliceReader(volume, again, self._mirrored, box)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 probabilities (n, classes, ...) for the network's input (n, ...).

        The classes are those of the task: channels that make up one are added up (their
        largest, where each is a decision of its own). Columns are the last axis.
        """
        found = self._once(images)
        if not self.manifest.input.mirror:
            return found
        mean: NDArray[np.float32] = (found + self._mirrored(images)) / np.float32(2)
        return mean

    def _mirrored(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network says of the mirrored patient, mirrored back."""
        found = self._once(np.ascontiguousarray(images[..., ::-1]))[..., ::-1]
        # Right and left have changed places.
        return found[:, ::-1] if self.manifest.task == "lungs" else found

    def _once(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        image = images.astype(_TYPES[self._session.get_inputs()[0].type], copy=False)
        found = self._session.run(None, {self._session.get_inputs()[0].name: image})[0]
        every = _activated(found.astype(np.float32, copy=False), self.manifest.activation)
        together = np.max if self.manifest.activation == "sigmoid" else np.sum
        merged = [
            every[:, channels[0]] if len(channels) == 1 else together(every[:, channels], axis=1)
            for channels in self.manifest.channels.values()
        ]
        return np.stack(merged, axis=1)

    @property
    def _any_size(self) -> bool:
        """Whether the network takes images of other rows and columns."""
        shape = self._session.get_inputs()[0].shape
        return not any(isinstance(length, int) for length in shape[2:])

    def _check_shapes(self) -> None:
        contract, manifest = self.manifest.input, self.manifest
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1:
            raise ModelError(f"{manifest.file} has {len(inputs)} inputs; one image is expected")
        size: tuple[int, ...]
        if isinstance(contract, PatchContract):
            channels, size = 1, contract.patch
        else:
            channels, size = contract.context, (contract.rows, contract.columns)
            if contract.outline_spacing is not None and not self._any_size:
                raise ModelError(
                    f"{manifest.file} takes {inputs[0].shape} only; outline_spacing needs "
                    "a network of any rows and columns"
                )
        for node, count in ((inputs[0], channels), (outputs[0], len(manifest.classes))):
            wanted = (count, *size)
            fits = len(node.shape) == len(wanted) + 1 and all(map(_fits, node.shape[1:], wanted))
            # Slices are read in batches; patches one by one.
            if not isinstance(contract, PatchContract):
                fits = fits and not isinstance(node.shape[0], int)
            if not fits:
                raise ModelError(
                    f"{manifest.file}: {node.name} has shape {node.shape}, "
                    f"the manifest says [n, {', '.join(map(str, wanted))}]"
                )
            if node.type not in _TYPES:
                raise ModelError(
                    f"{manifest.file}: {node.name} is {node.type}; float or float16 is expected"
                )


_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def _activated(logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Return probabilities (n, channels, ...)."""
    if activation == "sigmoid":
        sigmoid: NDArray[np.float32] = expit(logits)
        return sigmoid
    if activation == "softmax":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
        return softmax
    return logits


def _fits(have: Any, want: int) -> bool:
    """Tell whether a dimension is ``want`` or dynamic (a name)."""
    return not isinstance(have, int) or have == want


def load_models(
    folder: Path | None = None,
    *,
    providers: Sequence[str] = ("TensorRT", "CUDA", "CPU"),
    threads: int = 0,
) -> ModelSet:
    """Load ``lungs.toml`` and ``lesions.toml`` of ``folder``, or the shipped models.

    They run on the first of ``providers`` that starts on this machine.

    Raises:
        ModelError: A file is missing, damaged, or breaks its contract; or no provider starts.
    """
    available = available_providers(providers)
    if folder is None:
        with resources.as_file(resources.files("inference") / "models") as shipped:
            return _load_on_first(shipped, available, threads)
    return _load_on_first(folder, available, threads)


def _load_on_first(folder: Path, providers: Sequence[str], threads: int) -> ModelSet:
    *preferred, last = providers
    for provider in preferred:
        try:
            return _load(folder, provider, threads)
        except _ProviderUnusable as error:
            _LOG.warning("%s", error)
    return _load(folder, last, threads)


def _load(folder: Path, provider: str, threads: int) -> ModelSet:
    lungs, lesions = (_load_task(folder, task, provider, threads) for task in ("lungs", "lesions"))
    named = [f"{one.identity.name} {one.identity.version}" for one in (lungs, lesions)]
    _LOG.info("models %s on %s", ", ".join(named), provider)
    return ModelSet(lungs=lungs, lesions=lesions, provider=provider)


def _load_task(folder: Path, task: str, provider: str, threads: int) -> OnnxModel:
    model = load_model(folder / f"{task}.toml", provider=provider, threads=threads)
    if model.manifest.task != task:
        raise ModelError(f"{folder / task}.toml describes a model for {model.manifest.task}")
    return model


def load_model(
    manifest_path: Path,
    *,
    provider: str,
    threads: int,
    variant: Literal["fp16", "int8", ""] | None = None,
) -> OnnxModel:
    """Load one model and check its digest against the manifest.

    ``variant`` is ``fp16``, ``int8`` or nothing at all (``""``); None takes the one for the
    provider, where the manifest has it.

    Raises:
        ModelError: A file is missing, damaged, or breaks its contract.
    """
    manifest = read_manifest(manifest_path)
    wanted = _VARIANTS[provider] if variant is None else variant
    chosen = manifest.variants.get(wanted) if wanted else None
    name, digest = (chosen.file, chosen.sha256) if chosen else (manifest.file, manifest.sha256)
    file = manifest_path.parent / name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {file}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(f"{file} is not the file that {manifest_path.name} describes (SHA-256)")
    return OnnxModel(
        manifest, content, provider=provider, threads=threads, variant=wanted if chosen else ""
    )
