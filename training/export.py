"""Exports checkpoints to ONNX with a manifest, and checks that both compute the same."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from inference.networks.manifest import InputContract, OutputContract
from inference.networks.references import write_references
from inference.ports import PresenceRule
from training.grey import LIVE_INPUT
from training.networks import UNet, untrained
from training.recipes import Recipe

_OPSET = 21
_THRESHOLD = {"lungs": 0.5, "lesions": 0.3}
"""Chosen on the validation patients."""
_FRONT_END: dict[str, dict[str, Any]] = {
    "lungs": {},
    "lesions": {"coarsest_mm": 1.8, "mirror": True},
}
"""Where the input of a task differs from :data:`training.grey.LIVE_INPUT`.

In larger pixels the network takes vessels for nodules (docs/decisions/0026)."""
_INPUT_KEYS = (
    *("rows", "columns", "context", "context_mm", "window", "crop", "spacing"),
    *("mirror", "coarsest_mm"),
)
_CLASSES = {"lungs": ["background", "right", "left"], "lesions": ["lesion"]}
_ACTIVATION = {"lungs": "softmax", "lesions": "sigmoid"}
_LEAST_HU = -750.0
"""Anything less dense is aerated lung; MODEL_CARD.md says how the value was chosen."""
LICENCE = "CC BY-NC-SA 4.0 (inherited from the training data); research use only"


def load_checkpoint(path: Path) -> tuple[Recipe, UNet]:
    """Return the recipe and the averaged network of a checkpoint."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    recipe = Recipe(**state["recipe"] | {"channels": tuple(state["recipe"]["channels"])})
    network = untrained(recipe)
    network.load_state_dict(state["average"])
    return recipe, network.eval()


def export(checkpoint: Path, folder: Path, version: str, presence: PresenceRule | None) -> float:
    """Write ``<task>.onnx`` and ``<task>.toml`` into ``folder``.

    Returns:
        The largest absolute difference of the logits between torch and ONNX Runtime.
    """
    recipe, network = load_checkpoint(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{recipe.task}.onnx"
    example = torch.zeros(2, recipe.context, recipe.size, recipe.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        torch.onnx.export(
            network,
            (example,),
            str(file),
            input_names=["image"],
            output_names=["logits"],
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=(_any_size(recipe),),
        )
    contract = LIVE_INPUT.model_copy(
        update={
            "rows": recipe.size,
            "columns": recipe.size,
            "context": recipe.context,
            **_FRONT_END[recipe.task],
        }
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    text = _manifest(recipe, contract, version, digest, presence)
    (folder / f"{recipe.task}.toml").write_text(text)
    write_references(folder / f"{recipe.task}.toml")
    return parity(network, file, recipe)


def _any_size(recipe: Recipe) -> dict[int, Any]:
    """Return batch, rows and columns as dynamic, in multiples that the network can halve."""
    step = recipe.fold * 2 ** (len(recipe.channels) - 1)
    dim = torch.export.Dim
    return {
        0: dim("n", min=1, max=512),
        2: step * dim("rows", min=2, max=4096 // step),
        3: step * dim("columns", min=2, max=4096 // step),
    }


def parity(network: UNet, file: Path, recipe: Recipe) -> float:
    """Return the largest absolute difference of the logits on noise, whole images and cut ones."""
    random = np.random.default_rng(0)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences = []
    for rows, columns in ((recipe.size, recipe.size), (recipe.size // 2, 3 * recipe.size // 2)):
        images = random.random((3, recipe.context, rows, columns), dtype=np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        found = session.run(None, {"image": images})[0]
        differences.append(float(np.abs(expected - found).max()))
    return max(differences)


def _manifest(
    recipe: Recipe,
    contract: InputContract,
    version: str,
    digest: str,
    presence: PresenceRule | None,
) -> str:
    task = recipe.task
    tables: dict[str, dict[str, Any]] = {
        "": {
            "name": f"rales-{task}",
            "version": version,
            "task": task,
            "file": f"{task}.onnx",
            "sha256": digest,
            "licence": LICENCE,
            "card": "MODEL_CARD.md",
            "classes": _CLASSES[task],
            "activation": _ACTIVATION[task],
            "threshold": _THRESHOLD[task],
        },
        "input": {name: getattr(contract, name) for name in _INPUT_KEYS},
    }
    if presence is not None:
        tables["presence"] = asdict(presence)
        tables["output"] = {
            "minimum_lesion_ml": OutputContract().minimum_lesion_ml,
            "minimum_lesion_hu": _LEAST_HU,
        }
    return "# Made by: python -m training export; see MODEL_CARD.md\n" + "\n".join(
        _table(name, values) for name, values in tables.items()
    )


def _table(name: str, values: Mapping[str, Any]) -> str:
    """Return a TOML table; keys without a value are left out. JSON writes values as TOML does."""
    header = f"[{name}]\n" if name else ""
    return header + "".join(
        f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value
    )
