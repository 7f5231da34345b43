"""``rales model check``: its findings, its advice, and the examples in the docs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from linear_models import ModelFolder, linear_network

from inference.networks.manifest import Manifest, PatchContract
from inference.networks.modelcheck import ModelReport, TrialScan, check_model, phantom_scan
from inference.reading.frame import Frame
from phantom import make_thorax, small_spec
from rales.cli import cli

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs/models.md"


@pytest.fixture(scope="module")
def sample() -> TrialScan:
    return phantom_scan(make_thorax(small_spec()))


def check(folder: ModelFolder, task: str, sample: TrialScan) -> ModelReport:
    return check_model(
        folder.path / f"{task}.onnx", folder.path / f"{task}.toml", "CPU", lambda: sample
    )


def failures(report: ModelReport) -> dict[str, str]:
    return {step.name: step.message for step in report.steps if not step.passed}


def said(report: ModelReport, name: str) -> str:
    (message,) = [step.message for step in report.steps if step.name == name]
    return message


def test_a_good_network_passes_and_is_measured(folder: ModelFolder, sample: TrialScan) -> None:
    """Dense voxels of the frame are lesions: about right in a phantom, and known exactly."""
    folder.write("lesions", [[1.0]], rows=224, columns=224)
    report = check(folder, "lesions", sample)
    assert report.passed, failures(report)
    frame = Frame.of(sample.volume)
    share = np.clip((sample.volume.hu.astype(np.float32) + 1000) / 2000, 0, 1)
    dense, inside = (
        np.stack([frame.enter(values[index].astype(np.float32)) for index in frame.middle_slices])
        for values in (share, sample.lungs > 0)
    )
    marked = frame.restore((dense >= 0.5) & (inside >= 0.5))
    dice = 2 * (marked & sample.lesion).sum() / (marked.sum() + sample.lesion.sum())
    assert f"Dice {dice:.2f}" in said(report, "result")
    assert f"{sample.lesion.sum() * sample.volume.geometry.voxel_ml:.0f} ml" in said(
        report, "result"
    )
    assert re.search(r"\d+\.\d\d s for .* \(60 x 224 x 224\), warm", said(report, "time"))


def test_a_patch_network_is_read_too(folder: ModelFolder, sample: TrialScan) -> None:
    inputs = '[input]\nkind = "patch"\npatch = [16, 64, 64]\nwindow = [-1000.0, 1000.0]\n'
    folder.write("lesions", [[1.0]], inputs=inputs, size=(16, 64, 64))
    report = check(folder, "lesions", sample)
    assert report.passed, failures(report)
    assert "3D patches of 16 x 64 x 64" in said(report, "manifest")


def test_another_file_gets_its_name_and_digest(folder: ModelFolder, sample: TrialScan) -> None:
    folder.write("lesions", [[1.0]], rows=224, columns=224)
    content = linear_network([[0.5]], 224, 224)
    (folder.path / "newer.onnx").write_bytes(content)
    report = check_model(
        folder.path / "newer.onnx", folder.path / "lesions.toml", "CPU", lambda: sample
    )
    found = failures(report)
    assert set(found) == {"file", "digest"}
    assert 'file = "newer.onnx"' in found["file"]
    assert f'sha256 = "{hashlib.sha256(content).hexdigest()}"' in found["digest"]
    assert said(report, "time")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"no network", "network", "does not load"),
        (linear_network([[1.0]], 80, 80), "network", r"the manifest says \[n, 1, 224, 224\]"),
        (linear_network([[1.0]], 224, 224, batch=1), "network", "has shape"),
        (linear_network([[9.0]], 224, 224), "output", "seems to give logits"),
        (linear_network([[np.nan]], 224, 224), "output", "NaN or infinite"),
    ],
)
def test_a_failure_says_how_to_fix_it(
    folder: ModelFolder, sample: TrialScan, content: bytes, name: str, words: str
) -> None:
    folder.write("lesions", [[1.0]], rows=224, columns=224, content=content)
    found = failures(check(folder, "lesions", sample))
    assert set(found) == {name}
    assert re.search(words, found[name])


def test_a_manifest_that_breaks_its_contract(folder: ModelFolder, sample: TrialScan) -> None:
    manifest = folder.write("lesions", [[1.0]])
    manifest.write_text(manifest.read_text().replace("rows = 16", "rows = -16"))
    assert "input.rows" in failures(check(folder, "lesions", sample))["manifest"]


def test_a_lung_network_that_finds_no_lungs_fails(folder: ModelFolder, sample: TrialScan) -> None:
    folder.write("lungs", [[1.0], [0.0], [0.0]], rows=224, columns=224)
    found = failures(check(folder, "lungs", replace(sample, known=False)))
    assert "of lung were found" in found["output"]


def test_the_command_for_people_and_for_programs() -> None:
    models = Path(__file__).parents[2] / "inference/models"
    words = ["model", "check", str(models / "lesions.onnx")]
    words += ["--manifest", str(models / "lungs.toml")]
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 1
    assert "ok    manifest: " in shown.output
    (line,) = [line for line in shown.output.splitlines() if line.startswith("FAIL  file:")]
    assert "the manifest names lungs.onnx" in line
    assert line.endswith('write: file = "lesions.onnx"')
    parsed = CliRunner().invoke(cli, [*words, "--json"])
    assert parsed.exit_code == 1
    found = json.loads(parsed.stdout)
    assert found["passed"] is False
    assert {step["name"] for step in found["steps"] if not step["passed"]} >= {"file", "digest"}


def test_the_shipped_models_pass_as_a_user_would_check_them() -> None:
    models = Path(__file__).parents[2] / "inference/models"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "rales",
            "model",
            "check",
            str(models / "lungs.onnx"),
            "--manifest",
            str(models / "lungs.toml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    dice = re.search(r"Dice (\d\.\d\d)", done.stdout)
    assert dice is not None
    assert float(dice[1]) > 0.95


def test_the_examples_in_the_docs_are_manifests() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    examples = [Manifest.model_validate(tomllib.loads(one)) for one in blocks if "sha256" in one]
    assert [one.task for one in examples] == ["lungs", "lesions", "lesions"]
    assert isinstance(examples[2].input, PatchContract)
    assert set(examples[0].channels) == {"right", "left"}
    assert examples[2].channels == {"lesion": (1, 2)}


def test_the_help_shows_a_manifest() -> None:
    shown = CliRunner().invoke(cli, ["model", "check", "--help"]).output
    assert "[presence]" in shown
    assert "models_dir" in shown
