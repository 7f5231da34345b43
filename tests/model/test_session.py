"""The ONNX Runtime edge: the right file, the right shapes, the right provider."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from linear_models import ModelFolder, linear_network, volume_of
from scipy.special import softmax

from chestct.errors import GeometryError, ModelError, OutOfResources
from inference.networks.gpu import why_not_started
from inference.networks.runtime import Session, available_providers
from inference.networks.session import load_model, load_models


def volume_noise(slices: int = 11, rows: int = 16, columns: int = 16) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.integers(-1000, 1000, (slices, rows, columns)).astype(np.int16)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_probabilities_lie_on_the_voxels_of_their_slices(folder: ModelFolder, channel: int) -> None:
    weights = [[float(channel == k) for k in range(3)]]
    model = load_model(folder.write("lesions", weights), provider="CPU", threads=1)
    volume = volume_of(volume_noise())
    wanted = [10, 2, 3, 4, 5, 6, 7, 8, 0, 9]  # more than one batch, in no order
    found = model.reader(volume).probabilities(wanted)
    assert found.shape == (10, 1, 16, 16)
    assert found.dtype == np.float32
    source = np.clip(np.array(wanted) + channel - 1, 0, 10)
    np.testing.assert_allclose(found[:, 0] * 2000 - 1000, volume.hu[source], atol=4.0)


def test_a_volume_in_another_orientation_is_refused(folder: ModelFolder) -> None:
    model = load_model(folder.write("lesions", [[1.0]]), provider="CPU", threads=1)
    for row, column in (((-1, 0, 0), (0, 1, 0)), ((0, 1, 0), (1, 0, 0))):
        with pytest.raises(GeometryError, match="canonical"):
            model.reader(volume_of(volume_noise(), row_cosines=row, column_cosines=column))


def test_sigmoid_of_any_logit_is_a_probability(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]], activation="sigmoid")
    model = load_model(manifest, provider="CPU", threads=1)
    logits = np.zeros((1, 1, 16, 16), dtype=np.float32)
    logits[0, 0, 0, :3] = [-500, 2, 500]
    found = model.run(logits)[0, 0, 0]
    np.testing.assert_allclose(found[:4], [0, 1 / (1 + np.exp(-2)), 1, 0.5], atol=1e-6)


def test_softmax_sums_to_one(folder: ModelFolder) -> None:
    manifest = folder.write("lungs", [[900.0], [0.0], [3.0]], activation="softmax")
    model = load_model(manifest, provider="CPU", threads=1)
    image = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    found = model.run(image)
    assert found.shape == (1, 2, 16, 16)
    background = softmax(np.stack([900 * image[:, 0], 0 * image[:, 0], 3 * image[:, 0]]), axis=0)[0]
    np.testing.assert_allclose(found.sum(axis=1), 1 - background, atol=1e-6)


def test_loads_both_and_says_on_what(folder: ModelFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        models = load_models(folder.both(), providers=["CPU"], threads=1)
    assert models.provider == "CPU"
    assert models.lungs.classes == ("right", "left")
    assert models.lesions.identity.name == "test-lesions"
    assert models.lesions.presence is not None
    assert models.lungs.presence is None
    assert "on CPU" in caplog.text


def test_refuses_another_file_than_the_manifest_describes(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]])
    file = folder.path / "lesions.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(manifest, provider="CPU", threads=1)


def test_names_the_missing_file(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]])
    (folder.path / "lesions.onnx").unlink()
    with pytest.raises(ModelError, match=r"lesions\.onnx"):
        load_model(manifest, provider="CPU", threads=1)


def test_refuses_bytes_that_are_no_network(folder: ModelFolder) -> None:
    manifest = folder.write("lesions", [[1.0]], content=b"this is no protobuf")
    with pytest.raises(ModelError, match="does not load"):
        load_model(manifest, provider="CPU", threads=1)


@pytest.mark.parametrize(
    ("weights", "rows", "batch"),
    [
        ([[1.0, 0.0, 0.0]], 16, "n"),  # three slices in where the manifest says one
        ([[1.0], [1.0]], 16, "n"),  # two classes out where the manifest names one
        ([[1.0]], 32, "n"),  # another size
        ([[1.0]], 16, 1),  # one slice at a time only
    ],
)
def test_refuses_a_network_of_another_shape(
    folder: ModelFolder, weights: list[list[float]], rows: int, batch: int | str
) -> None:
    content = linear_network(weights, rows, 16, batch=batch)
    manifest = folder.write("lesions", [[1.0]], content=content)
    with pytest.raises(ModelError, match="shape"):
        load_model(manifest, provider="CPU", threads=1)


def test_refuses_a_model_for_another_task(folder: ModelFolder) -> None:
    folder.both()
    text = (folder.path / "lesions.toml").read_text()
    (folder.path / "lungs.toml").write_text(text)
    with pytest.raises(ModelError, match="lungs"):
        load_models(folder.path, providers=["CPU"], threads=1)


def test_prefers_the_providers_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    assert available_providers(["TensorRT", "CUDA", "CPU"]) == ["CUDA", "CPU"]
    assert available_providers(["CPU", "CUDA"]) == ["CPU", "CUDA"]


def test_says_which_providers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="CPUExecutionProvider"):
        available_providers(["CUDA"])
    with pytest.raises(ModelError, match="TensorRT, CUDA, CPU"):
        available_providers(["Cuda"])


def test_the_shipped_models_load() -> None:
    models = load_models(providers=["CPU"], threads=1)
    assert models.lungs.classes == ("right", "left")
    assert models.lesions.classes == ("lesion",)
    for model in (models.lungs, models.lesions):
        assert "CC BY-NC-SA" in model.identity.licence


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_goes_on_to_the_next_provider_when_one_does_not_start(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime's GPU build lists TensorRT and CUDA also where no library or driver is."""
    built = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: built)
    models = load_models(folder.both(), providers=["TensorRT", "CUDA", "CPU"], threads=1)
    assert models.provider == "CPU"
    assert "CUDA does not start for lungs.onnx: " in caplog.text
    with pytest.raises(ModelError, match=r"analysis\.providers"):
        load_models(folder.path, providers=["CUDA"], threads=1)


def test_a_folder_without_models_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lungs\.toml"):
        load_models(tmp_path, providers=["CPU"], threads=1)


def test_each_provider_takes_its_variant(folder: ModelFolder) -> None:
    """The CPU takes 8 bits; told to take none, or where there is none, it takes the file itself."""
    other = linear_network([[0.5]], 16, 16)
    (folder.path / "small.onnx").write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    table = f'\n[variants.int8]\nfile = "small.onnx"\nsha256 = "{digest}"\n'
    manifest = folder.write("lesions", [[1.0]], extra=table)
    image = np.ones((1, 1, 16, 16), np.float32)
    small = load_model(manifest, provider="CPU", threads=1)
    assert small.run(image)[0, 0, 0, 0] == 0.5
    assert (small.identity.version, small.identity.digest) == ("1-int8", digest)
    whole = load_model(manifest, provider="CPU", threads=1, variant="")
    assert whole.run(image)[0, 0, 0, 0] == 1
    assert whole.identity.version == "1"
    assert whole.identity.digest == whole.manifest.sha256
    half = load_model(manifest, provider="CPU", threads=1, variant="fp16")
    assert half.identity.version == "1"


def test_a_damaged_variant_is_refused(folder: ModelFolder) -> None:
    (folder.path / "small.onnx").write_bytes(b"damaged")
    table = f'\n[variants.int8]\nfile = "small.onnx"\nsha256 = "{"0" * 64}"\n'
    manifest = folder.write("lesions", [[1.0]], extra=table)
    with pytest.raises(ModelError, match=r"small\.onnx is not the file"):
        load_model(manifest, provider="CPU", threads=1)


def test_a_gpu_that_the_build_lacks_is_named_where_it_was_asked_for(folder: ModelFolder) -> None:
    asked = load_models(folder.both(), providers=["CUDA", "CPU"], threads=1)
    (reason,) = asked.refused
    assert "rales[gpu]" in reason
    assert load_models(folder.path, threads=1).refused == ()


@pytest.mark.parametrize(
    ("missing", "word"),
    [
        ("libcuda.so.1", "driver is not installed"),
        ("/ort/libonnxruntime_providers_cuda.so", "library is missing (no /ort/libonnx"),
        ("nothing", "the GPU itself is not usable"),
    ],
)
def test_the_missing_library_or_driver_is_named(missing: str, word: str) -> None:
    def load(name: str) -> None:
        if name == missing:
            raise OSError(f"no {name}")

    assert word in why_not_started("CUDA", Path("/ort"), load)


def test_without_a_runtime_both_extras_are_named() -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from chestct.errors import ModelError\n"
        "try:\n    import rales.analysis.pipeline\n"
        "except ModelError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert b"rales[cpu]" in done.stdout
    assert b"rales[gpu]" in done.stdout


class Crowded:
    """ONNX Runtime on a device that has memory for ``room`` images."""

    def __init__(self, session: object, room: int) -> None:
        self._session, self._room = session, room

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if len(feed["image"]) > self._room:
            raise RuntimeError("CUDA failure 2: out of memory")
        return self._session.run(names, feed)  # type: ignore[attr-defined]


def crowded(monkeypatch: pytest.MonkeyPatch, room: int) -> Session:
    real = ort.InferenceSession

    def start(content: bytes, options: object, providers: list[str]) -> Crowded:
        return Crowded(real(content, options, providers=["CPUExecutionProvider"]), room)

    monkeypatch.setattr(ort, "InferenceSession", start)
    monkeypatch.setattr(
        Crowded, "get_providers", lambda _: ["CUDAExecutionProvider"], raising=False
    )
    content = linear_network([[2.0]], 16, 16)
    return Session(content, name="lungs.onnx", provider="CUDA", threads=1)


def test_batches_halve_where_memory_does_not_suffice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = crowded(monkeypatch, room=2)
    images = np.random.default_rng(1).random((7, 1, 16, 16), dtype=np.float32)
    np.testing.assert_array_equal(session.run(images), 2 * images)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "lungs.onnx: memory does not suffice for 7 images at once; from now on 3",
        "lungs.onnx: memory does not suffice for 3 images at once; from now on 1",
    ]
    caplog.clear()
    np.testing.assert_array_equal(session.run(images), 2 * images)
    assert not caplog.records


def test_no_memory_for_one_image_is_out_of_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    session = crowded(monkeypatch, room=0)
    with pytest.raises(OutOfResources, match="one image"):
        session.run(np.zeros((2, 1, 16, 16), np.float32))


def test_threads_share_a_network(folder: ModelFolder) -> None:
    model = load_model(folder.write("lesions", [[1.0]]), provider="CPU", threads=1)
    inputs = [np.full((5, 1, 16, 16), share / 8, np.float32) for share in range(8)]
    with ThreadPoolExecutor(4) as threads:
        for image, found in zip(inputs, threads.map(model.run, inputs), strict=True):
            np.testing.assert_array_equal(found, image)
