"""Nothing is loaded but what a manifest names by its SHA-256, and that is ONNX and nothing else."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from linear_models import ModelFolder, linear_network
from onnx import TensorProto

from chestct.errors import ModelError
from inference.networks.session import load_model


class Trap:
    """Something that does harm when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.sprung,)


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(path=tmp_path)


def test_a_pickle_is_not_run_even_when_a_manifest_names_it(folder: ModelFolder) -> None:
    sprung = folder.path / "sprung"
    content = pickle.dumps(Trap(sprung))
    pickle.loads(content)  # noqa: S301 - the trap works
    sprung.unlink()
    manifest = folder.write("lesions", [[1.0]], content=content)
    with pytest.raises(ModelError, match="does not load"):
        load_model(manifest, provider="CPU", threads=1)
    assert not sprung.exists()


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_bit_is_another_file(folder: ModelFolder, place: int) -> None:
    manifest = folder.write("lesions", [[1.0]])
    file = folder.path / "lesions.onnx"
    load_model(manifest, provider="CPU", threads=1)
    changed = bytearray(file.read_bytes())
    changed[place] ^= 1
    file.write_bytes(changed)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(manifest, provider="CPU", threads=1)


def test_a_file_beside_that_no_manifest_names_is_not_read(folder: ModelFolder) -> None:
    """The weights of a network may lie in a second file, which the digest knows nothing of."""
    network = onnx.load_from_string(linear_network([[1.0]], 16, 16))
    weights = folder.path / "weights.bin"
    weights.write_bytes(np.array([5], np.float32).tobytes())
    kernel = network.graph.initializer[0]
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "0", "length": "4"}.items():
        kernel.external_data.add(key=key, value=value)
    content = network.SerializeToString()
    manifest = folder.write("lesions", [[1.0]], content=content)
    assert hashlib.sha256(content).hexdigest() in manifest.read_text()
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder.path)
        with pytest.raises(ModelError, match="does not load"):
            load_model(manifest, provider="CPU", threads=1)
