"""Runs networks in ONNX Runtime; the only module that imports it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

# ONNX Runtime from PyPI sends usage data to its maker and keeps a file for it in the home folder,
# unless this is set before the import. A hospital's node sends nothing to third parties.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError, OutOfResources

try:
    import onnxruntime as ort
except ModuleNotFoundError as error:
    raise ModelError(
        "ONNX Runtime is not installed. Install Rales with the build for this machine: "
        "pip install 'rales[cpu]', or pip install 'rales[gpu]' for an NVIDIA GPU"
    ) from error

from inference.networks.gpu import why_not_started
from inference.networks.tensors import ELEMENT_TYPES, Tensor

_LOG = logging.getLogger(__name__)

_CPU_BATCH = 2
"""Images that one core computes best at once: larger batches leave its cache (docs/models.md)."""

PROVIDERS = {
    "TensorRT": "TensorrtExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "CPU": "CPUExecutionProvider",
}
"""The names in the configuration, and ONNX Runtime's."""


AUTOMATIC = ("TensorRT", "CUDA", "CPU")
"""The default order: take a GPU where the installed ONNX Runtime has one."""


class ProviderUnusable(ModelError):
    """The provider is part of ONNX Runtime, but cannot be used on this machine."""


def available_providers(wanted: Sequence[str]) -> list[str]:
    """Return the ``wanted`` providers (names as in :data:`PROVIDERS`) that ONNX Runtime has.

    A returned provider may still lack its libraries or driver.

    Raises:
        ModelError: A name is unknown, or none is available.
    """
    for name in wanted:
        if name not in PROVIDERS:
            raise ModelError(f"unknown provider {name!r}: choose from {', '.join(PROVIDERS)}")
    available = ort.get_available_providers()
    found = [name for name in wanted if PROVIDERS[name] in available]
    if not found:
        raise ModelError(
            f"no wanted provider is available: {', '.join(wanted)}; ONNX Runtime has {available}"
        )
    return found


def absent_providers(wanted: Sequence[str]) -> list[str]:
    """Return a reason for each provider that was asked for and that ONNX Runtime does not have.

    :data:`AUTOMATIC` asks for none.
    """
    if tuple(wanted) == AUTOMATIC:
        return []
    available = ort.get_available_providers()
    return [
        f"{name} is not part of the installed ONNX Runtime; pip install 'rales[gpu]' has CUDA "
        "(in a new environment: the builds for CPU and GPU exclude each other)"
        for name in wanted
        if PROVIDERS[name] not in available
    ]


@cache
def _load_gpu_libraries() -> None:
    """Load CUDA and cuDNN from NVIDIA's wheels, where they are installed."""
    ort.preload_dlls()


class Session:
    """One network, loaded on one provider. Several threads may call :meth:`run` at once."""

    def __init__(self, content: bytes, *, name: str, provider: str, threads: int) -> None:
        """Load ``content``; ``threads`` 0 lets ONNX Runtime choose.

        Raises:
            ProviderUnusable: The provider does not start on this machine.
            ModelError: The network does not load. ``name`` stands in the message.
        """
        if provider != "CPU":
            _load_gpu_libraries()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Waiting threads leave their core to the receiver and to the other stages of the analysis.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._name = name
        self._batch = _CPU_BATCH if provider == "CPU" else None
        try:
            self._session = ort.InferenceSession(
                content,
                options,
                providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["CPU"]])),
            )
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise ModelError(f"{name} does not load: {error}") from error
        chosen = self._session.get_providers()[0]
        if chosen != PROVIDERS[provider]:
            raise ProviderUnusable(
                f"{provider} does not start for {name}: "
                f"{why_not_started(provider, Path(ort.__file__).parent / 'capi')}"
            )

    @property
    def inputs(self) -> Sequence[Tensor]:
        """The inputs of the network."""
        inputs: list[Any] = self._session.get_inputs()
        return inputs

    @property
    def outputs(self) -> Sequence[Tensor]:
        """The outputs of the network."""
        outputs: list[Any] = self._session.get_outputs()
        return outputs

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first output of the network for its only input.

        Where memory does not suffice, the images are computed in batches of half as many, now and
        from then on.

        Raises:
            OutOfResources: Memory does not suffice for one image.
        """
        while True:
            size = min(self._batch or len(images), len(images))
            try:
                parts = [
                    self._once(images[start : start + size])
                    for start in range(0, len(images), size)
                ]
            except Exception as error:  # ONNX Runtime's errors have no common base class
                if not _is_out_of_memory(error):
                    raise
                if size == 1:
                    raise OutOfResources(
                        f"{self._name}: memory does not suffice for one image: {error}"
                    ) from error
                self._batch = size // 2
                _LOG.warning(
                    "%s: memory does not suffice for %d images at once; from now on %d",
                    self._name,
                    size,
                    self._batch,
                )
            else:
                return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _once(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = self.inputs[0]
        image = images.astype(ELEMENT_TYPES[tensor.type], copy=False)
        outputs: NDArray[Any] = self._session.run(None, {tensor.name: image})[0]
        return outputs.astype(np.float32, copy=False)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of ONNX Runtime or CUDA says that memory does not suffice."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("failed to allocate memory", "out of memory", "bad_alloc")
    )
