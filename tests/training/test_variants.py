"""Networks in 16-bit floats and 8-bit integers give nearly the same results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra rales[train] is not installed")

from inference.networks.manifest import read_manifest
from inference.networks.session import load_model
from inference.ports import PresenceRule
from training.data import SliceSet
from training.engine import train
from training.export import export
from training.phantoms import phantom_slices
from training.recipes import RECIPES
from training.variants import VariantScore, add_to_manifest, make_variants, variants

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def data() -> SliceSet:
    return phantom_slices(range(1, 2))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data: SliceSet) -> Path:
    """Train two tiny networks for a moment, and export them."""
    folder = tmp_path_factory.mktemp("models")
    for task in ("lungs", "lesions"):
        recipe = replace(
            RECIPES[task],
            channels=(16, 32),
            crop=96,
            epochs=1,
            slices_per_epoch=48,
            batch=4,
            learning_rate=1e-2,
        )
        last = train(recipe, data, data, folder / "runs" / task, lambda _line: None)
        rule = PresenceRule(certainty=0.9, volume_ml=2.0, stride=2)
        export(last, folder, "1", rule if task == "lesions" else None)
    return folder


def test_variants_of_a_network_agree_and_are_smaller(
    models: Path, data: SliceSet, tmp_path: Path
) -> None:
    scores, files = make_variants("lungs", models, tmp_path, data, data)
    assert [one.variant for one in scores] == ["fp32", "fp16", "int8"]
    whole, half, small = scores
    assert whole.loss == 0
    assert whole.ratio == 1
    assert files["fp16"].stat().st_size < 0.8 * (models / "lungs.onnx").stat().st_size
    assert abs(half.loss) < 0.01
    assert abs(small.loss) < 0.05
    kinds = {node.op_type for node in onnx.load(files["int8"]).graph.node}
    assert "DequantizeLinear" in kinds
    assert onnx.load(files["fp16"]).graph.input[0].type.tensor_type.elem_type == 1


def test_a_variant_that_loses_much_or_gains_nothing_is_not_accepted() -> None:
    score = VariantScore(
        task="lungs",
        variant="int8",
        megabytes=1.0,
        dice=0.9,
        loss=0.004,
        milliseconds=10.0,
        ratio=0.5,
    )
    assert score.accepted
    assert not replace(score, loss=0.006).accepted
    assert not replace(score, ratio=1.1).accepted
    assert replace(score, ratio=1.1, variant="fp16").accepted


def test_a_manifest_states_its_variants_once(models: Path, data: SliceSet, tmp_path: Path) -> None:
    _, files = make_variants("lesions", models, tmp_path, data, data)
    manifest = tmp_path / "lesions.toml"
    manifest.write_text((models / "lesions.toml").read_text())
    before = read_manifest(manifest)
    add_to_manifest(manifest, files)
    add_to_manifest(manifest, {"int8": files["int8"]})
    after = read_manifest(manifest)
    assert set(after.variants) == {"int8"}
    assert after.model_copy(update={"variants": {}}) == before.model_copy(update={"selftest": {}})
    small = load_model(manifest, provider="CPU", threads=1)
    assert small.variant == "int8"
    image = data.images[[30]].astype(np.float32)[:, None].repeat(3, axis=1) / 255
    whole = load_model(models / "lesions.toml", provider="CPU", threads=1)
    assert np.abs(small.run(image) - whole.run(image)).mean() < 0.05


def test_the_command_measures_and_writes(models: Path, data: SliceSet, tmp_path: Path) -> None:
    slices = tmp_path / "slices.npz"
    count = len(data.images)
    np.savez(
        slices,
        ct=data.images,
        lung=np.packbits(data.lungs > 0, axis=-1),
        lesion=np.packbits(data.lesions, axis=-1),
        # A volume of the training part, and one of the validation part.
        volume=np.where(np.arange(count) < count // 2, 0, 2).astype(np.uint8),
    )
    folder = tmp_path / "models"
    folder.mkdir()
    for file in models.glob("l*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    words = [str(folder), "--slices", str(slices)]
    done = CliRunner().invoke(variants, [*words, "--write", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {(one["task"], one["variant"]) for one in found} == {
        (task, variant) for task in ("lungs", "lesions") for variant in ("fp32", "fp16", "int8")
    }
    for one in found:
        manifest = read_manifest(folder / f"{one['task']}.toml")
        if one["variant"] != "fp32":
            assert (one["variant"] in manifest.variants) == one["accepted"]
    assert "ms/batch" in CliRunner().invoke(variants, words, catch_exceptions=False).stdout
