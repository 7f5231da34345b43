"""Checks a network's tensors against its manifest, and turns its outputs into probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from chestct.errors import ModelError
from inference.networks.manifest import InputContract, Manifest, PatchContract

ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""The element types of inputs and outputs that are supported, by ONNX Runtime's names."""


class Tensor(Protocol):
    """An input or output of a network, as ONNX Runtime describes it."""

    @property
    def name(self) -> str:
        """The name in the file."""

    @property
    def shape(self) -> Sequence[Any]:
        """The length of each axis; a string where it is dynamic."""

    @property
    def type(self) -> str:
        """The element type."""


def takes_any_size(image: Tensor) -> bool:
    """Return whether the network takes images of any rows and columns."""
    return not any(isinstance(length, int) for length in image.shape[2:])


def check_tensors(manifest: Manifest, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Check that inputs and outputs are those of the manifest.

    Raises:
        ModelError: They are not.
    """
    contract = manifest.input
    if len(inputs) != 1:
        raise ModelError(f"{manifest.file} has {len(inputs)} inputs; exactly one is supported")
    channels, *size = (
        (1, *contract.patch)
        if isinstance(contract, PatchContract)
        else _slice_input(manifest, contract, inputs[0])
    )
    for tensor, count in ((inputs[0], channels), (outputs[0], len(manifest.classes))):
        wanted = (count, *size)
        fits = len(tensor.shape) == len(wanted) + 1 and all(map(_fits, tensor.shape[1:], wanted))
        # Slices are read in batches; patches one by one.
        if not isinstance(contract, PatchContract):
            fits = fits and not isinstance(tensor.shape[0], int)
        if not fits:
            raise ModelError(
                f"{manifest.file}: {tensor.name} has shape {tensor.shape}, "
                f"the manifest says [n, {', '.join(map(str, wanted))}]"
            )
        if tensor.type not in ELEMENT_TYPES:
            raise ModelError(
                f"{manifest.file}: {tensor.name} is {tensor.type}; float or float16 is expected"
            )


def _slice_input(manifest: Manifest, contract: InputContract, image: Tensor) -> tuple[int, ...]:
    """Return channels, rows and columns of the input of a 2D network."""
    if contract.crop is not None and not takes_any_size(image):
        raise ModelError(
            f"{manifest.file} takes {image.shape} only; "
            "crop needs a network of any rows and columns"
        )
    return contract.context, contract.rows, contract.columns


def _fits(have: Any, want: int) -> bool:
    """Return whether a dimension is ``want`` or dynamic (a name)."""
    return not isinstance(have, int) or have == want


def class_probabilities(manifest: Manifest, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities (n, classes, ...) of the task's classes.

    The channels of a class are added up; where each channel is its own decision (sigmoid), the
    largest counts.
    """
    every = _activated(outputs, manifest.activation)
    together = np.max if manifest.activation == "sigmoid" else np.sum
    merged = [
        every[:, channels[0]] if len(channels) == 1 else together(every[:, channels], axis=1)
        for channels in manifest.channels.values()
    ]
    return np.stack(merged, axis=1)


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
