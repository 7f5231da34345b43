"""The self-test of loaded networks: what computes wrongly never reads a patient."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from linear_models import ModelFolder, contract
from numpy.typing import NDArray

from chestct.errors import ModelError
from inference.networks import runtime
from inference.networks.manifest import PatchContract, read_manifest
from inference.networks.references import write_references
from inference.networks.selftest import fixed_images, self_test
from inference.networks.session import load_model, load_models
from rales.cli import cli

SHIPPED = Path(__file__).parents[2] / "inference/models"
PATCHES = '[input]\nkind = "patch"\npatch = [8, 16, 16]\nwindow = [-1000.0, 1000.0]\n'


@pytest.fixture
def tested(folder: ModelFolder) -> Path:
    """Both models with references."""
    path = folder.both()
    for task in ("lungs", "lesions"):
        write_references(path / f"{task}.toml")
    return path


@pytest.fixture
def wrong_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA provider that starts, and adds 0.1 to every output."""
    built = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: built)
    real = runtime.Session

    class Session(real):
        def __init__(self, content: bytes, *, name: str, provider: str, threads: int) -> None:
            super().__init__(content, name=name, provider="CPU", threads=threads)
            self._error = np.float32(0.1 if provider == "CUDA" else 0)

        def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().run(images) + self._error

    monkeypatch.setattr("inference.networks.session.Session", Session)


@pytest.mark.usefixtures("wrong_gpu")
def test_a_provider_that_computes_wrongly_is_refused(
    tested: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = load_models(tested, providers=["CUDA", "CPU"], threads=1)
    assert models.provider == "CPU"
    (reason,) = models.refused
    assert "CUDA is refused: test-lungs 1 computes wrongly" in reason
    assert "differs by 0.1" in reason
    assert "0.02 is allowed" in reason
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        reason
    ]
    assert len(models.self_test) == 2
    assert all("self-test passed" in line for line in models.self_test)


@pytest.mark.usefixtures("wrong_gpu")
def test_no_network_is_loaded_where_every_provider_computes_wrongly(tested: Path) -> None:
    with pytest.raises(ModelError, match=r"no provider is usable: CUDA is refused"):
        load_models(tested, providers=["CUDA"], threads=1)


def test_a_network_without_reference_says_that_no_self_test_ran(
    folder: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        models = load_models(folder.both(), providers=["CPU"], threads=1)
    for line in models.self_test:
        assert "no self-test ran" in line
        assert line in caplog.text


def test_values_that_are_not_numbers_are_refused(folder: ModelFolder) -> None:
    folder.both()
    folder.write("lungs", [[0.0], [float("nan")], [0.0]])
    with pytest.raises(ModelError, match="NaN"):
        load_models(folder.path, providers=["CPU"], threads=1)


@pytest.mark.parametrize("task", ["lungs", "lesions"])
@pytest.mark.parametrize("variant", ["", "fp16", "int8"])
def test_every_shipped_variant_has_a_reference_that_it_meets(task: str, variant: str) -> None:
    model = load_model(
        SHIPPED / f"{task}.toml",
        provider="CPU",
        threads=1,
        variant=variant,  # type: ignore[arg-type]
    )
    test = self_test(model)
    assert test.difference is not None
    assert test.difference <= test.tolerance


def test_the_networks_of_patches_are_tested_too(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]], inputs=PATCHES, size=(8, 16, 16))
    assert isinstance(read_manifest(manifest).input, PatchContract)
    write_references(manifest)
    test = self_test(load_model(manifest, provider="CPU", threads=1))
    assert test.difference is not None


def test_the_images_fill_the_input_and_its_values() -> None:
    images = fixed_images(contract(rows=64, columns=64, values=(-1.0, 1.0)))
    assert images.shape == (2, 3, 64, 64)
    assert (images.min(), images.max()) == (-1.0, pytest.approx(0.6, abs=0.1))
    np.testing.assert_array_equal(
        images, fixed_images(contract(rows=64, columns=64, values=(-1.0, 1.0)))
    )


def test_the_command_writes_references_once(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]])
    before = manifest.read_text()
    for _ in range(2):
        done = CliRunner().invoke(cli, ["model", "reference", str(manifest)])
        assert done.exit_code == 0, done.output
        assert "original" in done.output
    assert manifest.read_text().startswith(before)
    assert list(read_manifest(manifest).selftest) == ["original"]


def test_a_damaged_reference_is_named(folder: ModelFolder) -> None:
    text = '\n[selftest.original]\ntolerance = 0.02\nprobabilities = "AAAA"\n'
    manifest = folder.write("lesions", [[1.0]], extra=text)
    with pytest.raises(ModelError, match="damaged"):
        self_test(load_model(manifest, provider="CPU", threads=1))
