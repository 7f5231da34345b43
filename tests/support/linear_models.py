"""Networks of one layer, whose output is known exactly, behind manifests of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chestct.geometry import Geometry, Vector
from chestct.uids import derive_uid
from chestct.volume import SliceSource, Volume
from inference.networks.manifest import InputContract

CT_IMAGE = derive_uid("any class")


def linear_network(
    weights: Sequence[Sequence[float]],
    *size: int | str,
    batch: int | str = "n",
    half: bool = False,
) -> bytes:
    """Return an ONNX network: each class a weighted sum of the input channels.

    ``size`` are its rows and columns, or slices, rows and columns; ``half``: it computes in
    16 bits.
    """
    kernel = np.array(weights, dtype=np.float16 if half else np.float32)
    classes, channels = kernel.shape
    kernel = kernel.reshape(classes, channels, *[1] * len(size))
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("image", number, [batch, channels, *size])],
        [helper.make_tensor_value_info("logits", number, [batch, classes, *size])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


MANIFEST = """\
name = "test-{task}"
version = "1"
task = "{task}"
file = "{task}.onnx"
sha256 = "{digest}"
licence = "none"
classes = {classes}
activation = "{activation}"

{inputs}"""
INPUT = """\
[input]
rows = {rows}
columns = {columns}
context = {context}
context_mm = {context_mm}
window = [-1000.0, 1000.0]
clahe_clip = 0.0
clahe_tiles = 8
"""
PRESENCE = """
[presence]
certainty = 0.6
volume_ml = 0.5
stride = 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """Writes models as they lie beside each other on disk."""

    path: Path

    def write(
        self,
        task: str,
        weights: Sequence[Sequence[float]],
        *,
        rows: int = 16,
        columns: int = 16,
        activation: str = "none",
        context_mm: float = 3.0,
        content: bytes | None = None,
        inputs: str | None = None,
        size: Sequence[int | str] | None = None,
        classes: Sequence[str] | None = None,
        extra: str = "",
    ) -> Path:
        """Write ``<task>.onnx`` and its manifest; return the manifest's path.

        ``inputs`` is another ``[input]`` table, ``size`` what the network takes, ``extra``
        tables at the end.
        """
        content = content or linear_network(weights, *(size or (rows, columns)))
        (self.path / f"{task}.onnx").write_bytes(content)
        manifest = self.path / f"{task}.toml"
        names = ["lesion"] if task == "lesions" else ["background", "right", "left"]
        table = INPUT.format(
            rows=rows, columns=columns, context=len(weights[0]), context_mm=context_mm
        )
        manifest.write_text(
            MANIFEST.format(
                task=task,
                digest=hashlib.sha256(content).hexdigest(),
                classes=json.dumps(list(classes or names)),
                activation=activation,
                inputs=inputs or table,
            )
            + (PRESENCE if task == "lesions" else "")
            + extra
        )
        return manifest

    def both(self) -> Path:
        """Write a lung and a lesion model; return the folder."""
        self.write("lungs", [[1.0], [0.0], [0.0]])
        self.write("lesions", [[1.0]])
        return self.path


def volume_of(
    hu: NDArray[np.int16],
    *,
    row_cosines: Vector = (1, 0, 0),
    column_cosines: Vector = (0, 1, 0),
    slice_spacing: float = 3.0,
) -> Volume:
    """Return a volume of the voxels (slice, row, column)."""
    return Volume(
        hu=hu.copy(),
        geometry=Geometry(
            shape=(hu.shape[0], hu.shape[1], hu.shape[2]),
            origin=(-10.0, 4.0, 7.0),
            row_cosines=row_cosines,
            column_cosines=column_cosines,
            pixel_spacing=(0.8, 0.9),
            slice_spacing=slice_spacing,
        ),
        sources=tuple(
            SliceSource(sop_class_uid=CT_IMAGE, sop_instance_uid=derive_uid(f"slice {index}"))
            for index in range(len(hu))
        ),
        series_uid=derive_uid("series"),
        frame_of_reference_uid=derive_uid("frame"),
    )


def contract(**changes: object) -> InputContract:
    """Return an input contract of 16 by 16 pixels without CLAHE."""
    fields: dict[str, object] = {
        "rows": 16,
        "columns": 16,
        "context": 3,
        "context_mm": 3.0,
        "window": (-1000.0, 1000.0),
        "clahe_clip": 0.0,
        "clahe_tiles": 8,
    }
    return InputContract.model_validate(fields | changes)
