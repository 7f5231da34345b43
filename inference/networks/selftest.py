"""Compares the outputs of a loaded network for fixed images with the references in its manifest.

A driver, a BLAS or a kernel that computes wrongly gives masks that look like masks. So every
network computes the same images each time it is loaded, before it reads a patient. The images are
a coarse chest made here with additions and multiplications alone, so that they are the same on
every machine.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError
from inference.networks.manifest import (
    Arithmetic,
    InputContract,
    Manifest,
    PatchContract,
    Reference,
)

_IMAGES = 2
"""Images of a 2D network; they run as one batch."""
_POSITIONS = 1024
"""Compared positions of each class, spread over all images."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, spread evenly."""
_LEVELS = 255
"""References are probabilities in steps of 1/255."""


class Network(Protocol):
    """A loaded network, such as :class:`inference.networks.session.OnnxModel`."""

    manifest: Manifest
    variant: Literal["", "fp16", "int8"]

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, classes, ...) for the network's input (n, ...)."""


class WrongOutput(ModelError):
    """The outputs of a network differ from the references in its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """The outcome of a self-test that passed, or that had no reference.

    Attributes:
        network: Name and version.
        difference: The largest difference of a probability from its reference; None: the
            manifest has no reference of the variant.
        tolerance: The largest difference that the manifest allows.
    """

    network: str
    difference: float | None
    tolerance: float

    def __str__(self) -> str:
        """Return a sentence for logs and reports."""
        if self.difference is None:
            return (
                f"{self.network}: no self-test ran, because its manifest has no reference; "
                "rales model reference writes one"
            )
        return (
            f"{self.network}: self-test passed, largest difference of a probability "
            f"{self.difference:.3f}, tolerance {self.tolerance:g}"
        )


def key_of(variant: Literal["", "fp16", "int8"]) -> Arithmetic:
    """Return the key of a variant in ``[selftest]``; the variant "" is the original."""
    return variant or "original"


def fixed_images(contract: InputContract | PatchContract) -> NDArray[np.float32]:
    """Return the images of the self-test as an input of the network."""
    if isinstance(contract, PatchContract):
        hu = _chest(contract.patch)[None, None]
    else:
        shape = (_IMAGES * contract.context, contract.rows, contract.columns)
        hu = _chest(shape).reshape(_IMAGES, contract.context, *shape[1:])
    (low, high), (first, last) = contract.window, contract.ends
    share = (np.clip(hu, low, high) - low) / (high - low)
    values: NDArray[np.float32] = (first + share * (last - first)).astype(np.float32)
    return values


def outputs(network: Network) -> NDArray[np.float32]:
    """Return the probabilities of the fixed images at the compared positions: (class, position).

    Raises:
        WrongOutput: They are not finite numbers.
    """
    found = network.run(fixed_images(network.manifest.input))
    flat = np.moveaxis(found, 1, 0).reshape(found.shape[1], -1)
    spread = np.arange(_POSITIONS) * _GOLDEN % 1.0
    chosen = flat[:, (spread * flat.shape[1]).astype(np.int64)]
    if not np.isfinite(flat).all():
        raise WrongOutput(f"{_name(network)} gives NaN or infinite values in the self-test")
    return chosen


def self_test(network: Network) -> SelfTest:
    """Run the self-test of a loaded network.

    Raises:
        WrongOutput: The outputs differ from the reference by more than its tolerance.
        ModelError: The reference is damaged.
    """
    name = _name(network)
    reference = network.manifest.selftest.get(key_of(network.variant))
    found = outputs(network)
    if reference is None:
        return SelfTest(network=name, difference=None, tolerance=0.0)
    difference = float(np.abs(found - decoded(reference, len(found))).max())
    if difference > reference.tolerance:
        raise WrongOutput(
            f"{name} computes wrongly: in the self-test a probability differs by "
            f"{difference:.3f} from its reference, {reference.tolerance:g} is allowed"
        )
    return SelfTest(network=name, difference=difference, tolerance=reference.tolerance)


def _name(network: Network) -> str:
    manifest = network.manifest
    return " ".join(filter(None, (manifest.name, manifest.version, network.variant)))


def encoded(probabilities: NDArray[np.float32]) -> str:
    """Return probabilities (class, position) as the text of a reference."""
    levels = np.round(np.clip(probabilities, 0, 1) * _LEVELS).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode()


def decoded(reference: Reference, classes: int) -> NDArray[np.float32]:
    """Return the probabilities (class, position) of a reference.

    Raises:
        ModelError: The text is damaged or belongs to a network of other classes.
    """
    try:
        content = base64.b64decode(reference.probabilities, validate=True)
        levels = np.frombuffer(content, dtype=np.uint8).reshape(classes, _POSITIONS)
    except (binascii.Error, ValueError) as error:
        raise ModelError(
            f"a [selftest] reference of the manifest is damaged: it does not hold {_POSITIONS} "
            f"positions of {classes} classes; rales model reference writes it anew"
        ) from error
    return levels.astype(np.float32) / np.float32(_LEVELS)


def _chest(shape: Sequence[int]) -> NDArray[np.float64]:
    """Return HU (plane, row, column): a body with two lungs, soft-edged opacities and noise."""
    planes, rows, columns = shape
    z, y, x = np.meshgrid(*(_axis(count) for count in (planes, rows, columns)), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40.0
    lungs = (((np.abs(x) - 0.42) / 0.32) ** 2 + (y / 0.52) ** 2) < 1
    hu[lungs] = -850.0
    for column, row, radius, value in _OPACITIES:
        away = ((x - column) / radius) ** 2 + ((y - row) / radius) ** 2 + (0.3 * z) ** 2
        hu += np.clip(1 - away, 0, 1) * lungs * (value - hu)
    hu[(x / 0.07) ** 2 + ((y - 0.55) / 0.1) ** 2 < 1] = 500.0
    # The raw stream of a bit generator is the same in every version of numpy.
    raw = np.random.PCG64(1).random_raw(hu.size).reshape(hu.shape)
    noise = (raw >> np.uint64(58)).astype(np.float64) * 4 - 128
    return hu + noise


_OPACITIES = (
    (-0.62, 0.2, 0.22, -350.0),
    (-0.3, 0.38, 0.19, -250.0),
    (-0.6, -0.15, 0.16, -400.0),
    (0.62, 0.2, 0.22, -350.0),
    (0.3, 0.38, 0.19, -250.0),
    (0.6, -0.15, 0.16, -400.0),
    (0.45, 0.05, 0.13, -500.0),
)
"""Column, row, radius and HU of each opacity, in parts of half the image. Every shipped network
marks some of them and leaves others in doubt, so that a small error changes a probability."""


def _axis(count: int) -> NDArray[np.float64]:
    """Return the centres of ``count`` pixels between -1 and 1."""
    return (np.arange(count) * 2 + 1 - count) / count
