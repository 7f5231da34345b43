"""``rales model bench``: one row for each variant, with its difference from the original."""

from __future__ import annotations

import hashlib

from click.testing import CliRunner
from linear_models import ModelFolder, linear_network

from rales.cli import cli


def test_every_variant_is_timed_and_compared(folder: ModelFolder) -> None:
    other = linear_network([[0.5]], 16, 16)
    (folder.path / "small.onnx").write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    table = f'\n[variants.int8]\nfile = "small.onnx"\nsha256 = "{digest}"\n'
    manifest = folder.write("lesions", [[1.0]], extra=table)
    done = CliRunner().invoke(cli, ["model", "bench", str(manifest), "--threads", "1"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if "ONNX Runtime" in line]
    assert rows[0].startswith("| test-lesions original |")
    assert rows[0].endswith("| 0.000 |")
    assert rows[1].startswith("| test-lesions int8 |")
    assert not rows[1].endswith("| 0.000 |")
