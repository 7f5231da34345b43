"""The training system: labels, sampling, resumption, export, evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra rales[train] is not installed")

from inference.networks.manifest import read_manifest
from inference.ports import PresenceRule
from inference.reading.frame import PIXEL_MM
from phantom import make_thorax
from training.__main__ import main
from training.augment import Batch, _geometry, augment
from training.data import (
    IGNORE,
    LEFT,
    RIGHT,
    SliceSet,
    join,
    load_slices,
    load_split,
    patient_of,
    split_sides,
)
from training.engine import loss_of, train
from training.evaluate import dice
from training.export import export, load_checkpoint
from training.networks import UNet, untrained
from training.phantoms import phantom_slices, random_spec
from training.recipes import RECIPES, Recipe
from training.sampling import _weights, sample
from training.start import start_from

pytestmark = pytest.mark.train

_SHIPPED = Path(str(resources.files("inference"))) / "models"
_TINY = replace(
    RECIPES["lesions"],
    channels=(4, 8),
    size=64,
    crop=48,
    epochs=2,
    slices_per_epoch=8,
    batch=4,
)


@pytest.fixture
def slices() -> SliceSet:
    """Return two volumes of twelve slices: a bright square in a grey lung."""
    images = np.full((24, 64, 64), 40, dtype=np.uint8)
    lungs = np.zeros((24, 64, 64), dtype=np.uint8)
    lesions = np.zeros((24, 64, 64), dtype=bool)
    lungs[:, 10:50, 4:28], lungs[:, 10:50, 36:60] = RIGHT, LEFT
    lesions[:, 20:30, 8:18] = True
    images[lesions] = 200
    return SliceSet(
        images=images,
        lungs=lungs,
        lesions=lesions,
        volumes=np.repeat([0, 1], 12),
        names=("0", "1"),
    )


def _write(data: SliceSet, path: Path) -> None:
    np.savez(
        path,
        ct=data.images,
        lung=np.packbits(data.lungs > 0, axis=-1),
        lesion=np.packbits(data.lesions, axis=-1),
        volume=data.volumes.astype(np.uint8),
    )


def _train(recipe: Recipe, data: SliceSet, folder: Path) -> dict[str, torch.Tensor]:
    last = train(recipe, data, data.select([1]), folder, lambda _line: None)
    weights: dict[str, torch.Tensor] = torch.load(last, weights_only=True)["average"]
    return weights


def test_slices_come_back_as_they_were_written(slices: SliceSet, tmp_path: Path) -> None:
    _write(slices, tmp_path / "slices.npz")
    read = load_slices(tmp_path / "slices.npz")
    assert np.array_equal(read.images, slices.images)
    assert np.array_equal(read.lesions, slices.lesions)
    assert np.array_equal(read.lungs, slices.lungs)


def test_lungs_that_touch_are_split_with_an_unknown_band() -> None:
    lung = np.zeros((1, 64, 64), dtype=bool)
    lung[:, 10:50, 4:60] = True
    sides = split_sides(lung)
    assert sides[0, 30, 8] == RIGHT
    assert sides[0, 30, 55] == LEFT
    assert sides[0, 30, 32] == IGNORE


def test_the_split_keeps_patients_apart_and_uses_every_volume_once() -> None:
    parts = load_split("covid-ct-seg")
    patients = {name: {patient_of(one) for one in volumes} for name, volumes in parts.items()}
    assert not patients["train"] & patients["validation"]
    assert len(patients["validation"]) >= 4
    every = [one for volumes in parts.values() for one in volumes]
    assert len(every) == len(set(every)) == 16
    assert not {3, 8, 13, 17} & set(every)


def test_a_neighbour_stays_in_its_volume(slices: SliceSet) -> None:
    indices = np.array([0, 11, 12, 23])
    assert slices.neighbour(indices, -2).tolist() == [0, 9, 12, 21]
    assert slices.neighbour(indices, 2).tolist() == [2, 11, 14, 23]


def test_a_mirrored_patient_swaps_sides() -> None:
    lungs = torch.zeros(64, 32, 32, dtype=torch.long)
    lungs[:, 8:24, 4:14], lungs[:, 8:24, 18:28] = RIGHT, LEFT
    batch = Batch(
        images=torch.rand(64, 1, 32, 32),
        lungs=lungs,
        lesions=torch.zeros(64, 32, 32),
        variation=torch.ones(64),
    )
    out = augment(batch, torch.Generator().manual_seed(0), 32)
    assert 0 <= float(out.images.min()) <= float(out.images.max()) <= 1
    for labels in out.lungs:
        right, left = (labels == RIGHT).nonzero(), (labels == LEFT).nonzero()
        assert right[:, 1].float().mean() < left[:, 1].float().mean()


def test_a_crop_is_as_large_as_asked_and_shows_image_and_labels_alike() -> None:
    lesions = (torch.rand(16, 8, 8) > 0.7).float().repeat_interleave(8, 1).repeat_interleave(8, 2)
    batch = Batch(
        images=lesions[:, None], lungs=lesions.long(), lesions=lesions, variation=torch.ones(16)
    )
    images, lungs, moved = _geometry(batch, torch.Generator().manual_seed(0), 48)
    assert images.shape == (16, 1, 48, 48)
    assert lungs.shape == moved.shape == (16, 48, 48)
    inside = (images[:, 0] > 0.99) | (images[:, 0] < 0.01)
    # Outside the image the labels are 0, while the image repeats its border.
    agree = (images[:, 0] > 0.5) == (moved > 0.5)
    assert inside.float().mean() > 0.5
    assert agree[inside & (moved > 0)].all()


def test_a_run_is_not_resumed_by_another_recipe(slices: SliceSet, tmp_path: Path) -> None:
    _train(_TINY, slices, tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate was 0.0015 and is 0.1"):
        _train(replace(_TINY, learning_rate=0.1), slices, tmp_path)


def test_every_source_is_drawn_in_its_share(slices: SliceSet) -> None:
    names = ("0", "restored-1", "phantom-1", "chest-a-1")
    four = join([slices, slices])
    data = SliceSet(
        images=four.images,
        lungs=four.lungs,
        lesions=four.lesions,
        volumes=four.volumes,
        names=names,
    )
    shares = {"patients": 0.2, "restored": 0.4, "phantoms": 0.1, "chests": 0.3}
    recipe = replace(_TINY, shares=shares)
    volumes, sizes = np.unique(data.volumes, return_counts=True)
    assert _weights(data, volumes, sizes, recipe) == pytest.approx([0.2, 0.4, 0.1, 0.3])
    only = slices
    assert _weights(only, *np.unique(only.volumes, return_counts=True), recipe) == pytest.approx(
        [0.5, 0.5]
    )


def test_as_many_draws_as_asked_are_of_slices_with_a_lesion(slices: SliceSet) -> None:
    lesions = slices.lesions.copy()
    lesions[np.arange(24) % 12 != 5] = False
    data = replace(slices, lesions=lesions)
    batches = sample(data, replace(_TINY, ill_share=0.5), 2000, np.random.default_rng(0))
    seen = np.concatenate([batch.lesions.any(dim=(1, 2)).numpy() for batch in batches])
    assert len(seen) == 2000
    assert seen.mean() == pytest.approx(0.5 + 0.5 / 12, abs=0.05)


@pytest.mark.parametrize("fold", [1, 2])
def test_a_folded_network_answers_for_every_pixel(fold: int) -> None:
    """Moved by whole folds and poolings, the image gets the same answers, moved."""
    network = UNet(3, 2, (4, 8), fold).eval()
    images = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        found = network(images)
        moved = network(images.roll((2 * fold, 2 * fold), (2, 3)))
    assert found.shape == (1, 2, 96, 128)
    back = moved.roll((-2 * fold, -2 * fold), (2, 3))
    inside = (slice(None), slice(None), slice(40, 56), slice(40, 88))
    torch.testing.assert_close(found[inside], back[inside])


def test_every_recipe_can_be_trained_by_its_name() -> None:
    (task,) = (one for one in main.commands["train"].params if one.name == "task")
    assert isinstance(task.type, click.Choice)
    assert set(task.type.choices) == set(RECIPES)
    for recipe in RECIPES.values():
        assert sum(recipe.shares.values()) == pytest.approx(1)


def test_phantoms_are_shown_in_hu_on_their_frame_with_their_truth() -> None:
    shown = phantom_slices(range(1, 2))
    thorax = make_thorax(random_spec(1, lesions=True))
    pixel_ml = thorax.spacing[0] * PIXEL_MM**2 / 1000
    lungs = thorax.left_lung | thorax.right_lung
    for found, truth in ((shown.lungs > 0, lungs), (shown.lesions, thorax.lesion > 0)):
        assert found.sum() * pixel_ml == pytest.approx(thorax.volume_ml(truth), rel=0.03)
    healthy = (shown.lungs > 0) & ~shown.lesions
    hu = shown.images[healthy] / 255 * 1424 - 1024
    assert np.median(hu) == pytest.approx(np.median(thorax.hu[lungs & (thorax.lesion == 0)]), abs=8)


def test_progress_counts_every_batch(slices: SliceSet, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    train(
        _TINY,
        slices,
        slices.select([1]),
        tmp_path,
        lambda _line: None,
        lambda *done: seen.append(done),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_training_learns(slices: SliceSet, tmp_path: Path) -> None:
    recipe = replace(_TINY, epochs=6, slices_per_epoch=32)
    _train(recipe, slices, tmp_path)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    losses = [float(row.split(",")[1]) for row in rows[1:]]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_where_the_truth_is_unknown_nothing_is_learnt(slices: SliceSet) -> None:
    """Labels under the mask change neither the loss nor its gradient."""
    unknown = np.zeros_like(slices.lesions)
    unknown[:, 15:35] = True
    losses = []
    for labels in (slices.lesions, np.zeros_like(slices.lesions)):
        data = replace(slices, lesions=labels, unknown=unknown)
        (batch,) = sample(data, _TINY, 4, np.random.default_rng(0))
        torch.manual_seed(0)
        network = untrained(_TINY)
        loss = loss_of(network(batch.images), batch, "lesions")
        loss.backward()
        assert network.head.bias.grad is not None
        losses.append((loss.item(), network.head.bias.grad.item()))
    assert losses[0] == losses[1]
    known = replace(slices, unknown=np.zeros_like(unknown))
    (batch,) = sample(known, _TINY, 4, np.random.default_rng(0))
    torch.manual_seed(0)
    assert loss_of(untrained(_TINY)(batch.images), batch, "lesions").item() != losses[0][0]


@pytest.mark.parametrize("task", ["lungs", "lesions"])
def test_a_run_that_starts_from_a_network_computes_the_same(
    task: str, slices: SliceSet, tmp_path: Path
) -> None:
    """Also where the new network sees more neighbours: they weigh nothing at first."""
    before = replace(_TINY, task=task, context=1 if task == "lungs" else 3)
    _train(before, slices, tmp_path / "run")
    presence = PresenceRule(certainty=0.9, volume_ml=2.0, stride=1)
    export(tmp_path / "run" / "last.pt", tmp_path, "1", presence if task == "lesions" else None)
    after = untrained(replace(before, context=3))
    (batch,) = sample(slices, replace(before, context=3, batch=24), 24, np.random.default_rng(0))
    start_from(tmp_path / f"{task}.onnx", after, batch.images)
    _, trained = load_checkpoint(tmp_path / "run" / "last.pt")
    seen = batch.images[:, 1:2] if task == "lungs" else batch.images
    with torch.no_grad():
        torch.testing.assert_close(after.eval()(batch.images), trained(seen), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(after.train()(batch.images), trained(seen), atol=2e-3, rtol=2e-3)


def test_another_network_is_no_start(slices: SliceSet, tmp_path: Path) -> None:
    _train(replace(_TINY, task="lungs"), slices, tmp_path / "run")
    export(tmp_path / "run" / "last.pt", tmp_path, "1", None)
    wider = untrained(replace(_TINY, task="lungs", channels=(6, 8)))
    with pytest.raises(ValueError, match="does not fit"):
        start_from(tmp_path / "lungs.onnx", wider, torch.rand(2, 3, 32, 32))


def test_a_stopped_run_goes_on_to_the_same_weights(slices: SliceSet, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if "epoch 1/" in line:
            raise Stop

    whole = _train(_TINY, slices, tmp_path / "whole")
    with pytest.raises(Stop):
        train(_TINY, slices, slices.select([1]), tmp_path / "stopped", stop)
    resumed = _train(_TINY, slices, tmp_path / "stopped")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("task", ["lungs", "lesions"])
def test_export_computes_what_torch_computes(task: str, slices: SliceSet, tmp_path: Path) -> None:
    recipe = replace(_TINY, task=task, context=RECIPES[task].context)
    _train(recipe, slices, tmp_path / "run")
    loaded, _ = load_checkpoint(tmp_path / "run" / "last.pt")
    assert loaded == recipe
    presence = PresenceRule(certainty=0.9, volume_ml=2.0, stride=2)
    difference = export(
        tmp_path / "run" / "last.pt",
        tmp_path / "models",
        "1",
        presence if task == "lesions" else None,
    )
    assert difference < 1e-4
    # Live CT enters it as it enters the shipped network.
    made = read_manifest(tmp_path / "models" / f"{task}.toml").input
    shipped = read_manifest(_SHIPPED / f"{task}.toml").input
    assert made.model_copy(update={"rows": 256, "columns": 256}) == shipped


def test_evaluate_prints_dice_by_patient(slices: SliceSet, tmp_path: Path) -> None:
    for task in ("lungs", "lesions"):
        recipe = replace(_TINY, task=task, context=RECIPES[task].context)
        _train(recipe, slices, tmp_path / task)
    runs = [str(tmp_path / task) for task in ("lungs", "lesions")]
    models = str(tmp_path / "models")
    done = CliRunner().invoke(main, ["export", *runs, "--version", "1", "--out", models])
    assert done.exit_code == 0, done.output
    _write(slices, tmp_path / "slices.npz")
    words = ["evaluate", "--slices", str(tmp_path / "slices.npz"), "--models", models]
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    assert [one["patient"] for one in found["patients"]] == [0, 1]
    assert {"patient", "lung_dice", "lesion_dice"} <= set(found["patients"][0])
    assert "lesion Dice" in CliRunner().invoke(main, words).output


def test_dice_of_known_masks() -> None:
    one = np.array([True, True, False, False])
    two = np.array([True, False, True, False])
    assert dice(one, two) == 0.5
    assert dice(one, one) == 1.0
    assert dice(~one & one, ~one & one) == 1.0


def test_joined_sets_keep_their_volumes_apart(slices: SliceSet) -> None:
    both = join([slices, slices])
    assert sorted(set(both.volumes.tolist())) == [0, 1, 2, 3]
    assert both.names == ("0", "1", "0", "1")


def test_random_phantoms_are_of_both_kinds() -> None:
    specs = [random_spec(seed, lesions=True) for seed in range(1, 19)]
    assert len({one.kernel for one in specs}) == 2
    assert len({lesion.kind for one in specs for lesion in one.lesions}) == 2
