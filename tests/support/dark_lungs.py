"""Two small networks that a phantom can be read with, and what the report's tests share."""

from __future__ import annotations

import numpy as np
import onnx
from linear_models import ModelFolder
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inference.networks.session import OnnxModel, load_model
from phantom import Thorax
from training.report.cases import Case
from training.report.records import Source

SIZE = 64
"""Rows and columns of the networks."""


def write_dark_lungs(folder: ModelFolder) -> tuple[OnnxModel, OnnxModel]:
    """Lungs are what is dark in the middle, a side each; lesions are what is not as dark."""
    sides = np.full((1, 3, SIZE, SIZE), -100.0)
    sides[:, 0] = -27.0
    sides[:, 1, 6:58, 4:32], sides[:, 2, 6:58, 32:60] = 0.0, 0.0
    for task, weights, offset, activation in (
        ("lungs", [[90.0], [0.0], [0.0]], sides, "softmax"),
        ("lesions", [[90.0]], np.full((1, 1, SIZE, SIZE), -15.0), "sigmoid"),
    ):
        content = shifted(weights, offset)
        folder.write(task, weights, rows=SIZE, columns=SIZE, activation=activation, content=content)
    lungs, lesions = (
        load_model(folder.path / f"{task}.toml", provider="CPU", threads=1)
        for task in ("lungs", "lesions")
    )
    return lungs, lesions


def shifted(weights: list[list[float]], offset: NDArray[np.float64]) -> bytes:
    """Return an ONNX network: a weighted sum of the input, and what is added to each pixel."""
    kernel = np.array(weights, dtype=np.float32)[:, :, None, None]
    classes, channels = kernel.shape[:2]
    size = offset.shape[2:]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["sum"]),
            helper.make_node("Add", ["sum", "offset"], ["logits"]),
        ],
        "shifted",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes, *size])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(offset.astype(np.float32), "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def case_of(thorax: Thorax, name: str = "case", source: Source = Source.PHANTOM) -> Case:
    return Case(
        name=name,
        source=source,
        volume=thorax.volume(),
        lesion=thorax.lesion > 0,
        lungs=thorax.left_lung | thorax.right_lung,
    )
