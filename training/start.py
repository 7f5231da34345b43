"""Starts a training run from the weights of a shipped network.

An ONNX file holds convolutions whose batch normalisation has been folded into them. A start
separates the two again, so that the network computes the same and can be trained further.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.networks import UNet


def start_from(file: Path, network: UNet, images: Tensor) -> None:
    """Take over the weights of ``file``, and the statistics of ``images`` of the network's input.

    A network that sees more neighbours than that of the file starts with weights of zero for them.

    Raises:
        ValueError: The file holds another network.
    """
    graph = onnx.load(str(file)).graph
    values = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    bias_of = {
        node.input[1]: node.input[2]
        for node in graph.node
        if node.op_type == "Conv" and len(node.input) == 3
    }
    state = network.state_dict()
    biases: dict[str, Tensor] = {}
    for convolution, norm in _pairs(network):
        name = f"{convolution}.weight"
        if name not in values or name not in bias_of:
            raise ValueError(f"{file} has no {name}: it holds another network")
        state[name].copy_(_with_neighbours(values[name], state[name]))
        biases[norm] = values[bias_of[name]]
    for name in ("head.weight", "head.bias"):
        if values[name].shape != state[name].shape:
            raise ValueError(f"{file}: {name} is {tuple(values[name].shape)}, not that of the task")
        state[name].copy_(values[name])
    network.load_state_dict(state)
    _measure(network, biases, images)


def _pairs(network: UNet) -> Iterator[tuple[str, str]]:
    """Yield the names of each convolution and of the batch normalisation after it."""
    for part in ("down", "up"):
        for level in range(len(getattr(network, part))):
            for place in (0, 3):
                yield f"{part}.{level}.{place}", f"{part}.{level}.{place + 1}"


def _with_neighbours(weight: Tensor, like: Tensor) -> Tensor:
    """Return a weight, widened with zeros for the slices before and after; the rest must fit."""
    if weight.shape == like.shape:
        return weight
    wide = torch.zeros_like(like)
    missing = like.shape[1] - weight.shape[1]
    if missing < 0 or weight.shape[0] != like.shape[0]:
        raise ValueError(f"a weight of {tuple(weight.shape)} does not fit {tuple(like.shape)}")
    wide[:, missing // 2 : missing // 2 + weight.shape[1]] = weight
    return wide


@torch.no_grad()
def _measure(network: UNet, biases: dict[str, Tensor], images: Tensor) -> None:
    """Set every batch normalisation so that it only adds its bias to ``images``."""

    def prepare(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        mean = inputs[0].mean(dim=(0, 2, 3))
        variance = inputs[0].var(dim=(0, 2, 3))
        norm.running_mean, norm.running_var = mean, variance
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.copy_(biases[names[norm]] + mean)

    names = {network.get_submodule(name): name for name in biases}
    hooks = [norm.register_forward_pre_hook(prepare) for norm in names]
    network.eval()(images)
    for hook in hooks:
        hook.remove()
