"""Times the variants of a network in ONNX Runtime and, where it is installed, in OpenVINO."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError
from inference.networks.manifest import Manifest, read_manifest
from inference.networks.runtime import Session
from inference.networks.selftest import fixed_images, key_of
from inference.networks.tensors import class_probabilities

_BATCH = 8
_ROUNDS = 5
_HUNDRED = 100

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Returns the outputs of a network for its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One variant of a network in one engine.

    Attributes:
        network: Name and variant.
        seconds: For 100 images, the median of several rounds.
        cpu_seconds: Likewise, of all threads together.
        difference: The largest difference of a probability from the original in ONNX Runtime.
    """

    network: str
    engine: str
    seconds: float
    cpu_seconds: float
    difference: float


def bench(manifest_path: Path, threads: int) -> list[Timing]:
    """Time every variant of a manifest on the CPU with ``threads`` (0: as many as there are).

    The engines take turns, so that a busy machine slows all of them.

    Raises:
        ModelError: The manifest or a network of it cannot be used.
    """
    manifest = read_manifest(manifest_path)
    networks = _networks(manifest, manifest_path.parent, threads)
    images = fixed_images(manifest.input)
    images = np.concatenate([images] * -(-_BATCH // len(images)))[:_BATCH]
    found = {
        key: class_probabilities(manifest, network(images)) for key, network in networks.items()
    }
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in networks}
    for _ in range(_ROUNDS):
        for key, network in networks.items():
            start, cpu = time.perf_counter(), time.process_time()
            network(images)
            spent[key].append((time.perf_counter() - start, time.process_time() - cpu))
    original = found[next(iter(found))]
    factor = _HUNDRED / len(images)
    return [
        Timing(
            network=f"{manifest.name} {variant}",
            engine=engine,
            seconds=statistics.median(seconds for seconds, _ in spent[variant, engine]) * factor,
            cpu_seconds=statistics.median(cpu for _, cpu in spent[variant, engine]) * factor,
            difference=float(np.abs(found[variant, engine] - original).max()),
        )
        for variant, engine in networks
    ]


def _networks(manifest: Manifest, folder: Path, threads: int) -> dict[tuple[str, str], Run]:
    """Return the loaded networks by variant and engine; first the original in ONNX Runtime."""
    variants: list[Literal["", "fp16", "int8"]] = ["", *manifest.variants]
    networks: dict[tuple[str, str], Run] = {}
    for variant in variants:
        file = folder / (manifest.variants[variant].file if variant else manifest.file)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read the model {file}: {error.strerror}") from error
        session = Session(content, name=file.name, provider="CPU", threads=threads)
        networks[key_of(variant), "ONNX Runtime"] = session.run
        if find_spec("openvino"):
            networks[key_of(variant), "OpenVINO"] = _openvino(file, threads)
    return networks


def _openvino(file: Path, threads: int) -> Run:
    import openvino  # noqa: PLC0415 - not a dependency; the bench uses it where it is installed

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    core = openvino.Core()
    request = core.compile_model(core.read_model(file), "CPU", options).create_infer_request()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = request.infer([images])[0].copy()
        return outputs

    return run
