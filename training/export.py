"""Checkpoints to ONNX with a manifest, and the proof that both compute the same."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from inference.networks.manifest import InputContract, OutputContract
from training.networks import UNet
from training.phantoms import LIVE_INPUT
from training.recipes import Recipe

_OPSET = 21
_THRESHOLD = {"lungs": 0.5, "lesions": 0.3}
"""Chosen on the validation patients."""
_FRONT_END: dict[str, dict[str, Any]] = {
    "lungs": {},
    "lesions": {
        "window": (-1024.0, 400.0),
        "clahe_clip": 3.0,
        "coarsest_mm": 1.8,
        "mirror": True,
        "outline_spacing": (1.35, 1.35),
    },
}
"""Where live CT is read otherwise than the phantoms were shown in training: with less
equalisation the lesion network is wrong less often, chosen on validation seeds (MODEL_CARD.md).
In larger pixels it takes vessels for nodules (docs/decisions/0026). What the further readings
gain is in docs/model/report.md and docs/decisions/0028."""
_LEAST_HU = -750.0
"""What lies below is aerated lung; see MODEL_CARD.md for how it was chosen."""
LICENCE = "CC BY-NC-SA 4.0 (inherited from the training data); research use only"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceChoice:
    """The rule that goes into a lesion model's manifest."""

    certainty: float
    volume_ml: float
    stride: int


def load_checkpoint(path: Path) -> tuple[Recipe, UNet]:
    """Return the recipe and the averaged network of a checkpoint."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    fields = state["recipe"] | {"channels": tuple(state["recipe"]["channels"])}
    recipe = Recipe(**fields)
    network = recipe.network()
    network.load_state_dict(state["average"])
    return recipe, network.eval()


def export(checkpoint: Path, folder: Path, version: str, presence: PresenceChoice | None) -> float:
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
    # What was trained on one front end alone is read with that one.
    contract = LIVE_INPUT.model_copy(
        update={
            "rows": recipe.size,
            "columns": recipe.size,
            "context": recipe.context,
            **(_FRONT_END[recipe.task] if recipe.front_end == "varied" else {}),
        }
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    text = _manifest(recipe, contract, version, digest, presence)
    (folder / f"{recipe.task}.toml").write_text(text)
    return parity(network, file, recipe)


def _any_size(recipe: Recipe) -> dict[int, Any]:
    """Return batch, rows and columns as dynamic; the network halves its images so often."""
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
    presence: PresenceChoice | None,
) -> str:
    classes = {"lungs": '["background", "right", "left"]', "lesions": '["lesion"]'}[recipe.task]
    activation = {"lungs": "softmax", "lesions": "sigmoid"}[recipe.task]
    lines = [
        "# Made by: python -m training export; see MODEL_CARD.md",
        f'name = "rales-{recipe.task}"',
        f'version = "{version}"',
        f'task = "{recipe.task}"',
        f'file = "{recipe.task}.onnx"',
        f'sha256 = "{digest}"',
        f'licence = "{LICENCE}"',
        'card = "MODEL_CARD.md"',
        f"classes = {classes}",
        f'activation = "{activation}"',
        f"threshold = {_THRESHOLD[recipe.task]}",
        "",
        "[input]",
        f"rows = {contract.rows}",
        f"columns = {contract.columns}",
        f"context = {contract.context}",
        f"context_mm = {contract.context_mm}",
        *(["mirror = true"] if contract.mirror else []),
        *(
            [f"outline_spacing = {list(contract.outline_spacing)}"]
            if contract.outline_spacing
            else []
        ),
        *([f"coarsest_mm = {contract.coarsest_mm}"] if contract.coarsest_mm else []),
        f"window = [{contract.window[0]}, {contract.window[1]}]",
        f"clahe_clip = {contract.clahe_clip}",
        f"clahe_tiles = {contract.clahe_tiles}",
    ]
    if presence is not None:
        lines += [
            "",
            "[presence]",
            f"certainty = {presence.certainty}",
            f"volume_ml = {presence.volume_ml}",
            f"stride = {presence.stride}",
            "",
            "[output]",
            f"minimum_lesion_ml = {OutputContract().minimum_lesion_ml}",
            f"minimum_lesion_hu = {_LEAST_HU}",
        ]
    return "\n".join(lines) + "\n"
