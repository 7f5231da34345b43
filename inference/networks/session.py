"""Loads models with their manifests and runs them in ONNX Runtime on the best provider."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError
from chestct.orientation import require_canonical
from chestct.results import ModelIdentity
from chestct.volume import Volume
from inference.networks.manifest import InputContract, Manifest, PatchContract, read_manifest
from inference.networks.patches import PatchReader
from inference.networks.preprocess import covering
from inference.networks.runtime import (
    AUTOMATIC,
    ProviderUnusable,
    Session,
    absent_providers,
    available_providers,
)
from inference.networks.selftest import SelfTest, WrongOutput, self_test
from inference.networks.slices import SliceReader
from inference.networks.tensors import check_tensors, class_probabilities, takes_any_size
from inference.ports import Box, ModelSet, PresenceRule, Reader

_LOG = logging.getLogger(__name__)

_VARIANTS: dict[str, Literal["fp16", "int8"]] = {"TensorRT": "fp16", "CUDA": "fp16", "CPU": "int8"}


class OnnxModel:
    """A network with its manifest; a :class:`inference.ports.SegmentationModel`."""

    def __init__(
        self,
        manifest: Manifest,
        content: bytes,
        *,
        provider: str,
        threads: int,
        variant: Literal["", "fp16", "int8"] = "",
    ) -> None:
        """Load ``content``; ``threads`` 0 lets ONNX Runtime choose.

        ``variant`` names the manifest's variant that ``content`` holds, if any.

        Raises:
            ModelError: The network does not load on the provider, or its inputs and outputs
                are not those of the manifest.
        """
        self.manifest = manifest
        self.variant = variant
        self.size = len(content)
        self._digest = hashlib.sha256(content).hexdigest()
        self._session = Session(content, name=manifest.file, provider=provider, threads=threads)
        check_tensors(manifest, self._session.inputs, self._session.outputs)

    @property
    def identity(self) -> ModelIdentity:
        """The name, version and digest that the results state."""
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
        """The least probability with which a voxel belongs to a class."""
        return self.manifest.threshold

    @property
    def presence(self) -> PresenceRule | None:
        """The rule for the presence decision."""
        rule = self.manifest.presence
        return PresenceRule(**rule.model_dump()) if rule else None

    @property
    def minimum_lesion_ml(self) -> float:
        """Smaller connected lesions are dropped."""
        return self.manifest.output.minimum_lesion_ml

    @property
    def minimum_lesion_hu(self) -> float | None:
        """Less dense voxels are not lesion; None: density does not matter."""
        return self.manifest.output.minimum_lesion_hu

    @property
    def coarsest_mm(self) -> float | None:
        """The largest pixel size that the network can read, mm; None: any."""
        return self.manifest.input.coarsest_mm

    @property
    def reads_body(self) -> bool:
        """Whether the network reads the body alone."""
        return isinstance(self.manifest.input, InputContract) and bool(self.manifest.input.crop)

    def reader(self, volume: Volume, box: Box | None = None) -> Reader:
        """Return a reader of the volume within ``box`` (default: everywhere).

        Raises:
            GeometryError: The volume is not in canonical orientation.
        """
        require_canonical(volume.geometry)
        contract = self.manifest.input
        if isinstance(contract, PatchContract):
            return PatchReader(volume, contract, self.run, box)
        if contract.crop is not None:
            contract = covering(volume.geometry, contract)
        mirrored = self._mirrored if contract.mirror else None
        within = box if self._any_size else None
        return SliceReader(volume, contract, self._once, within, mirrored)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 probabilities (n, classes, ...) for the network's input (n, ...).

        The classes are those of the task. Columns are the last axis.
        """
        probabilities = self._once(images)
        if not self.manifest.input.mirror:
            return probabilities
        mean: NDArray[np.float32] = (probabilities + self._mirrored(images)) / np.float32(2)
        return mean

    def _mirrored(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the mirrored patient, mirrored back."""
        mirrored = self._once(np.ascontiguousarray(images[..., ::-1]))[..., ::-1]
        # Right and left have changed places.
        return mirrored[:, ::-1] if self.manifest.task == "lungs" else mirrored

    def _once(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return class_probabilities(self.manifest, self._session.run(images))

    @property
    def _any_size(self) -> bool:
        """Whether the network takes images of other rows and columns."""
        return takes_any_size(self._session.inputs[0])


def load_models(
    folder: Path | None = None,
    *,
    providers: Sequence[str] = AUTOMATIC,
    threads: int = 0,
) -> ModelSet:
    """Load ``lungs.toml`` and ``lesions.toml`` of ``folder``, or the shipped models.

    The models run on the first of ``providers`` that starts on this machine and passes the
    self-test of both.

    Raises:
        ModelError: A file is missing, damaged, or breaks its contract; or no provider is usable.
    """
    available = available_providers(providers)
    if folder is None:
        with resources.as_file(resources.files("inference") / "models") as shipped:
            return _load_on_first(shipped, available, threads, absent_providers(providers))
    return _load_on_first(folder, available, threads, absent_providers(providers))


def _load_on_first(
    folder: Path, providers: Sequence[str], threads: int, absent: Sequence[str]
) -> ModelSet:
    refused = list(absent)
    for provider in providers:
        try:
            lungs, lesions = (
                _load_task(folder, task, provider, threads) for task in ("lungs", "lesions")
            )
            tests = [self_test(model) for model in (lungs, lesions)]
        except ProviderUnusable as error:
            refused.append(str(error))
        except WrongOutput as error:
            refused.append(f"{provider} is refused: {error}")
        else:
            models = ModelSet(
                lungs=lungs,
                lesions=lesions,
                provider=provider,
                refused=tuple(refused),
                self_test=tuple(map(str, tests)),
            )
            _log(models, tests)
            return models
    raise ModelError(
        f"no provider is usable: {'; '.join(refused)}. Set analysis.providers, or mend the machine."
    )


def _log(models: ModelSet, tests: Sequence[SelfTest]) -> None:
    for reason in models.refused:
        _LOG.warning("%s", reason)
    names = [f"{model.identity.name} {model.identity.version}" for model in models.networks]
    _LOG.info("models %s on %s", ", ".join(names), models.provider)
    for test in tests:
        level = logging.WARNING if test.difference is None else logging.INFO
        _LOG.log(level, "%s", test)


def _load_task(folder: Path, task: str, provider: str, threads: int) -> OnnxModel:
    model = load_model(folder / f"{task}.toml", provider=provider, threads=threads)
    if model.manifest.task != task:
        raise ModelError(
            f"{folder / task}.toml describes a model for {model.manifest.task}, not {task}"
        )
    return model


def load_model(
    manifest_path: Path,
    *,
    provider: str,
    threads: int,
    variant: Literal["fp16", "int8", ""] | None = None,
) -> OnnxModel:
    """Load one model and check its digest against the manifest.

    ``variant`` is ``fp16``, ``int8`` or ``""`` for the original; None takes the provider's
    variant, if the manifest has it.

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
        raise ModelError(
            f"{file} is not the file that {manifest_path.name} describes: its SHA-256 differs"
        )
    return OnnxModel(
        manifest, content, provider=provider, threads=threads, variant=wanted if chosen else ""
    )
