"""The commands that train: what `make train` runs, and which chests each command takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from labelled_chest import labelled_chest

from chestct.uids import Uid
from chestct.volume import Volume
from phantom.volume import canonical_volume
from training.__main__ import main
from training.chests import load_chests
from training.data import SliceSet, load_split
from training.grey import CANVAS
from training.real_labels.recipe import known_recipes
from training.real_labels.split import known_parts
from training.recipes import RECIPES

_ROOT = Path(__file__).parents[2]
_BY_NAME = {recipe.name: uid for uid, recipe in known_recipes().items()}


def _made(*words: str, venv: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--silent", "--dry-run", "train", f"VENV={venv}", *words],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )


def test_make_train_runs_commands_that_exist_with_options_that_they_have(tmp_path: Path) -> None:
    recipe = _made("SLICES=s.npz", "CHESTS=one two", venv=tmp_path).stdout
    lines = re.findall(r"(?ms)python -m training (.*?[^\\])$", recipe)
    commands = [shlex.split(line.replace("\\\n", " ")) for line in lines]
    assert [words[0] for words in commands] == [
        *("label-chest", "restorer", "train", "train", "export", "choose-presence", "evaluate")
    ]
    for name, *words in commands:
        known = {option for param in main.commands[name].params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= known
    assert [words[1:3] for words in commands[:2]] == [["one", "two"]] * 2
    assert [words[1] for words in commands[2:4]] == ["lungs", "lesions"]
    # The test part is never named: nothing is trained or chosen on it.
    assert "chests/test" not in recipe


def test_make_train_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / ".train-stamp").touch()
    words = ["make", "--silent", "train", f"VENV={tmp_path}", "SLICES=s.npz"]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make train needs SLICES=slices.npz and CHESTS=" in done.stdout


def _series(name: str) -> Volume:
    """Return the volume of the series with this name in the committed split, made up."""
    chest = labelled_chest()
    volume = canonical_volume(chest.hu, chest.spacing, (0.0, 0.0, 0.0))
    return replace(volume, series_uid=Uid(_BY_NAME[name]))


def _run(command: str, names: list[str], out: Path, folder: Path) -> Result:
    folders = [folder / name for name in names]
    for place in folders:
        place.mkdir(exist_ok=True)
    return CliRunner().invoke(main, [command, *map(str, folders), "--out", str(out)])


def test_labelled_chests_are_sorted_by_their_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chest, saved = labelled_chest(), []

    class Labels:
        def save(self, path: Path) -> None:
            saved.append(path)
            arrays = {name: getattr(chest, name) for name in ("hu", "body", "lungs", "lesion")}
            np.savez(path, spacing=chest.spacing, **arrays)

        def summary(self) -> dict[str, float]:
            return {}

    monkeypatch.setattr("training.real_labels.command.read_volume", lambda at: _series(at.name))
    monkeypatch.setattr("training.real_labels.command.labels_of", lambda *_: Labels())
    names, out = ["normal-2mm", "wide-fov-5mm", "lungdx-5mm"], tmp_path / "chests"
    assert _run("label-chest", names, out, tmp_path).exit_code == 0
    parts = ["selection", "train", "test"]
    assert saved == [out / part / f"{name}.npz" for part, name in zip(parts, names, strict=True)]
    # What is there is not labelled again.
    done = _run("label-chest", [*names, "covid-4mm"], out, tmp_path)
    assert done.exit_code == 0
    assert saved[3:] == [out / "selection" / "covid-4mm.npz"]
    loaded = [chest.name for chest in load_chests([out / "selection", saved[1]])]
    assert loaded == ["covid-4mm", "normal-2mm", "wide-fov-5mm"]


def test_the_restorer_learns_from_the_train_part_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="the extra rales[train] is not installed")
    learnt: list[object] = []

    def pairs_of(volume: Volume, lungs: object, seeds: range) -> object:
        learnt.append(volume.series_uid)
        return None

    monkeypatch.setattr("training.learn.read_volume", lambda at: _series(at.name))
    monkeypatch.setattr("training.learn.lung_labels", lambda *_: np.zeros(1, np.uint8))
    monkeypatch.setattr("training.restoration.pairs_of", pairs_of)
    monkeypatch.setattr("training.restoration.train_restorer", lambda *_: torch.nn.Conv2d(1, 1, 1))
    out = tmp_path / "runs" / "restorer.pt"
    done = _run("restorer", sorted(_BY_NAME), out, tmp_path)
    assert done.exit_code == 0, done.output
    assert out.exists()
    assert {known_parts()[str(uid)] for uid in learnt} == {"train"}
    assert len(learnt) == sum(part == "train" for part in known_parts().values())
    assert "normal-2mm left out: it is of the selection part" in done.output
    none = _run("restorer", ["lungdx-5mm"], tmp_path / "none.pt", tmp_path)
    assert none.exit_code == 1
    assert "no series is of the train part" in none.output
    assert not (tmp_path / "none.pt").exists()


def _slices(path: Path) -> None:
    """Write two slices of a patient to train on, and two of a patient to watch."""
    lung = np.zeros((4, CANVAS, CANVAS), dtype=bool)
    lung[:, 60:190, 40:110], lung[:, 60:190, 146:216] = True, True
    lesion = np.zeros_like(lung)
    lesion[:, 100:140, 60:90] = True
    split = load_split("covid-ct-seg")
    np.savez(
        path,
        ct=np.where(lesion, 180, np.where(lung, 30, 150)).astype(np.uint8),
        lung=np.packbits(lung, axis=-1),
        lesion=np.packbits(lesion, axis=-1),
        volume=np.repeat([split["train"][0], split["validation"][0]], 2).astype(np.uint8),
    )


def _label(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    chest = labelled_chest()
    arrays = {key: getattr(chest, key) for key in ("hu", "body", "lungs", "lesion", "spacing")}
    np.savez(folder / f"{name}.npz", **arrays)


@pytest.mark.train
def test_train_learns_from_every_source_and_watches_the_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="the extra rales[train] is not installed")
    from training import engine, restoration  # noqa: PLC0415

    tiny = replace(
        RECIPES["lesions"],
        channels=(4, 8),
        crop=48,
        epochs=1,
        slices_per_epoch=4,
        batch=4,
        scans=2,
    )
    trained: list[SliceSet] = []

    def run(*arguments: object) -> Path:
        trained.extend(data for data in arguments if isinstance(data, SliceSet))
        return learn(*arguments)

    learn = engine.train
    monkeypatch.setattr(engine, "train", run)
    monkeypatch.setattr("training.learn.RECIPES", {"lesions": tiny})
    monkeypatch.setattr("training.learn.TRAINING_PHANTOMS", range(1, 2))
    monkeypatch.setattr("training.learn.TRAINING_PLAIN", range(1, 2))
    monkeypatch.setattr("training.learn.WATCHED", range(1001, 1002))
    _slices(tmp_path / "slices.npz")
    _label(tmp_path / "chests" / "train", "known")
    _label(tmp_path / "chests" / "selection", "aside")
    train, selection = (tmp_path / "chests" / part for part in ("train", "selection"))
    shutil.copy(train / "known.npz", train / "normal-2mm.npz")
    for part in (train, selection):
        shutil.copy(train / "known.npz", part / "lungdx-5mm.npz")
    torch.save(restoration.restorer().state_dict(), tmp_path / "restorer.pt")
    words = ["train", "lesions", "--slices", str(tmp_path / "slices.npz"), "--threads", "1"]
    words += ["--chest", str(tmp_path / "chests" / "train")]
    words += ["--watch", str(tmp_path / "chests" / "selection")]
    words += ["--restorer", str(tmp_path / "restorer.pt"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    known, watched = ({data.names[at] for at in np.unique(data.volumes)} for data in trained)
    patients = [str(load_split("covid-ct-seg")[part][0]) for part in ("train", "validation")]
    made = {"phantom-1", "plain-1", "chest-known-1", "chest-known-2"}
    assert known == {patients[0], f"restored-{patients[0]}", *made}
    assert watched == {patients[1], "phantom-1001", "plain-1001", "chest-aside-1001"}
    assert done.output.count("lungdx-5mm left out: it is of the test part") == 2
    assert "normal-2mm left out: it is of the selection part" in done.output
    header, row = (tmp_path / "runs" / "lesions" / "log.csv").read_text().splitlines()
    assert "dice_chest-aside-1001" in header
    assert row.startswith("1,")
