"""Writes 16-bit float and 8-bit integer versions of a network; needs onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16


def make_fp16(source: Path, target: Path) -> None:
    """Write a network that computes in 16-bit floats; input and output stay 32-bit."""
    model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    onnx.save(model, target)


class _Images(CalibrationDataReader):
    """Hands out the images one by one, as the input ``name``."""

    def __init__(self, name: str, images: Sequence[NDArray[np.float32]]) -> None:
        self._name, self._left = name, iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input, or None at the end."""
        image = next(self._left, None)
        return None if image is None else {self._name: image}


def make_int8(source: Path, target: Path, images: Sequence[NDArray[np.float32]]) -> None:
    """Write a network that computes in 8-bit integers, calibrated on ``images``.

    Each is an input (n, context, rows, columns). The first convolution and the head stay in
    floats: they see and say the fine grey levels, and cost little.
    """
    model = onnx.load(source)
    name = model.graph.input[0].name
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(target),
            _Images(name, images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # CPUs without VNNI add pairs of products in 16 bits
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
        )
