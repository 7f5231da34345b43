"""Writes the references of the self-test into a manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from chestct.errors import ModelError
from inference.networks.manifest import Arithmetic, read_manifest
from inference.networks.selftest import encoded, key_of, outputs
from inference.networks.session import load_model

TOLERANCES: dict[Arithmetic, float] = {"original": 0.02, "fp16": 0.03, "int8": 0.06}
"""The largest difference of a probability from its reference that is not an error.

Each is at least three times what other arithmetic of the same network changes: docs/models.md has
the measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReference:
    """The reference of one variant.

    Attributes:
        variant: ``original``, ``fp16`` or ``int8``.
        marked: The part of the compared probabilities that are 0.5 or more.
        from_original: The largest difference of a probability from that of the original.
    """

    variant: Arithmetic
    tolerance: float
    marked: float
    from_original: float


def write_references(manifest_path: Path) -> list[WrittenReference]:
    """Run every variant of a manifest on the CPU, and write its outputs there as the reference.

    References that the manifest has are replaced.

    Raises:
        ModelError: The manifest or a network of it cannot be used, or the manifest cannot be
            written.
    """
    variants: list[Literal["", "fp16", "int8"]] = ["", *read_manifest(manifest_path).variants]
    found = {
        key_of(variant): outputs(
            load_model(manifest_path, provider="CPU", threads=0, variant=variant)
        )
        for variant in variants
    }
    tables = re.split(r"^(?=\[)", manifest_path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "".join(table for table in tables if not table.startswith("[selftest.")).rstrip() + "\n"
    for key, probabilities in found.items():
        text += (
            f"\n[selftest.{key}]\ntolerance = {TOLERANCES[key]}\n"
            f'probabilities = "{encoded(probabilities)}"\n'
        )
    try:
        manifest_path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot write {manifest_path}: {error.strerror}") from error
    read_manifest(manifest_path)
    return [
        WrittenReference(
            variant=key,
            tolerance=TOLERANCES[key],
            marked=float((probabilities >= 0.5).mean()),  # noqa: PLR2004 - a half
            from_original=float(np.abs(probabilities - found["original"]).max()),
        )
        for key, probabilities in found.items()
    ]
