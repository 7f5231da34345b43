"""Checks a network against its manifest, step by step; each failure says how to fix it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError, SeriesRejected
from chestct.volume import Label, Volume
from inference.networks.manifest import Manifest, PatchContract, read_manifest
from inference.networks.selftest import self_test
from inference.networks.session import OnnxModel
from inference.ports import SegmentationModel
from inference.reading.frame import Frame
from inference.reading.lungs import lung_labels
from inference.reading.postprocess import box_of
from inference.reading.readers import lesion_probabilities, reader_on
from phantom import Thorax

_REPEATS = 2
"""The first reading is cold; the second gives the time of a warm network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialScan:
    """A scan to try a network on.

    Attributes:
        volume: HU.
        lungs: uint8 labels of :class:`chestct.volume.Label`, without lesions.
        lesion: bool, the truth where it is known.
        known: Whether ``lungs`` and ``lesion`` are the truth, as of a phantom.
    """

    name: str
    volume: Volume
    lungs: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    known: bool


def phantom_scan(thorax: Thorax) -> TrialScan:
    """Return a phantom with its truth."""
    sides = np.where(thorax.left_lung, np.uint8(Label.LEFT_LUNG), np.uint8(Label.BACKGROUND))
    sides[thorax.right_lung] = Label.RIGHT_LUNG
    return TrialScan(
        name="the thorax phantom",
        volume=thorax.volume(),
        lungs=sides,
        lesion=thorax.lesion > 0,
        known=True,
    )


def real_scan(volume: Volume, model: SegmentationModel) -> TrialScan:
    """Return a real scan; ``model`` delineates its lungs.

    Raises:
        SeriesRejected: The scan has no lungs.
    """
    lungs = lung_labels(volume, model)
    return TrialScan(
        name=f"series {volume.series_uid}",
        volume=volume,
        lungs=lungs,
        lesion=np.zeros(lungs.shape, dtype=bool),
        known=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The outcome of one check; ``message`` says how to fix a failure."""

    name: str
    passed: bool
    message: str


@dataclass(slots=True)
class ModelReport:
    """The outcome of all checks."""

    steps: list[Step] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the network can be used with this manifest."""
        return all(step.passed for step in self.steps)

    def add(self, name: str, message: str) -> None:
        """Add a step that passed."""
        self.steps.append(Step(name=name, passed=True, message=message))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run a step; if it raises a ModelError, add a failed step and skip the rest of it."""
        try:
            yield
        except (ModelError, SeriesRejected) as error:
            self.steps.append(Step(name=name, passed=False, message=str(error)))


def check_model(
    file: Path, manifest_path: Path, provider: str, sample: Callable[[], TrialScan]
) -> ModelReport:
    """Check ``file`` against its manifest and read a sample with it.

    ``sample`` is called only when the network loads. Errors of the model end up in the report;
    none is raised.
    """
    report = ModelReport()
    with report.step("manifest"):
        manifest = read_manifest(manifest_path)
        report.add("manifest", _summary(manifest))
        _check_file(report, file, manifest)
        model = None
        with report.step("network"):
            model = OnnxModel(
                manifest,
                _content(file),
                provider=provider,
                threads=0,
                variant=_variant_of(file, manifest),
            )
            report.add("network", f"loads on {provider}; input and output match the manifest")
        if model is not None:
            _try(report, model, sample())
            if report.passed:
                with report.step("self-test"):
                    report.add("self-test", str(self_test(model)))
    return report


def _summary(manifest: Manifest) -> str:
    contract = manifest.input
    if isinstance(contract, PatchContract):
        shape = "3D patches of {} x {} x {}".format(*contract.patch)
    else:
        few = "single slices" if contract.context == 1 else f"{contract.context} slices"
        shape = f"{few} of {contract.rows} x {contract.columns}"
    return (
        f"{manifest.name} {manifest.version} for {manifest.task}: {shape}, "
        f"{contract.window[0]:g} to {contract.window[1]:g} HU, {manifest.activation}, "
        f"threshold {manifest.threshold:g}"
    )


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}") from error


def _variant_of(file: Path, manifest: Manifest) -> Literal["", "fp16", "int8"]:
    """Return the variant that a file of the manifest holds; empty for the original."""
    for name, variant in manifest.variants.items():
        if variant.file == file.name:
            return name
    return ""


def _check_file(report: ModelReport, file: Path, manifest: Manifest) -> None:
    with report.step("file"):
        if file.name not in manifest.files():
            raise ModelError(
                f'the manifest names {", ".join(manifest.files())}; write: file = "{file.name}"'
            )
        report.add("file", f"{file.name}, {file.stat().st_size / 1e6:.1f} MB")
    with report.step("digest"):
        digest = hashlib.sha256(_content(file)).hexdigest()
        if digest != manifest.files().get(file.name, manifest.sha256):
            raise ModelError(
                "the SHA-256 in the manifest is of another file. If this file is right, write: "
                f'sha256 = "{digest}"'
            )
        report.add("digest", f"SHA-256 {digest[:12]}…")


def _try(report: ModelReport, model: OnnxModel, sample: TrialScan) -> None:
    with report.step("output"):
        low, high = _extremes(model, sample)
        if not np.isfinite([low, high]).all():
            raise ModelError(
                "the network gives NaN or infinite values: set window and values of [input] as in "
                "training; 16-bit networks overflow on large values"
            )
        if low < -1e-3 or high > 1 + 1e-3:  # noqa: PLR2004 - rounding of 16-bit networks
            raise ModelError(
                f"probabilities run from {low:.3g} to {high:.3g}; the network seems to give "
                'logits: set activation = "sigmoid" or "softmax"'
            )
        report.add("output", f"probabilities {low:.3f} to {high:.3f} on {sample.name}")
        _read(report, model, sample)


def _extremes(model: OnnxModel, sample: TrialScan) -> tuple[float, float]:
    """Return the lowest and highest probability in the middle of the lungs."""
    inside = np.flatnonzero((sample.lungs > 0).any(axis=(1, 2)))
    middle = inside[inside.size // 4 :: max(1, inside.size // 4)][:3].tolist()
    probabilities = model.reader(sample.volume).probabilities(middle)
    return float(probabilities.min()), float(probabilities.max())


def _read(report: ModelReport, model: OnnxModel, sample: TrialScan) -> None:
    seconds, found = [], np.zeros(0, dtype=bool)
    for _ in range(_REPEATS):
        start = time.perf_counter()
        found = _lungs(model, sample) if model.manifest.task == "lungs" else _lesion(model, sample)
        seconds.append(time.perf_counter() - start)
    truth = sample.lungs > 0 if model.manifest.task == "lungs" else sample.lesion
    voxel_ml = sample.volume.geometry.voxel_ml
    result = f"{found.sum() * voxel_ml:.0f} ml of {model.manifest.task} marked on {sample.name}"
    if sample.known:
        both = int(found.sum()) + int(truth.sum())
        dice = 2 * int((found & truth).sum()) / both if both else 1.0
        result += f" (truth {truth.sum() * voxel_ml:.0f} ml, Dice {dice:.2f})"
    report.add("result", result)
    shape = " x ".join(map(str, sample.volume.geometry.shape))
    report.add(
        "time",
        f"{seconds[-1]:.2f} s for {sample.name} ({shape}), warm; first {seconds[0]:.2f} s",
    )


def _lungs(model: SegmentationModel, sample: TrialScan) -> NDArray[np.bool_]:
    return lung_labels(sample.volume, model) > Label.BACKGROUND


def _lesion(model: SegmentationModel, sample: TrialScan) -> NDArray[np.bool_]:
    """Return the lesions in the lungs, without the presence decision."""
    frame = Frame.of(sample.volume)
    lungs = frame.enter_mask(sample.lungs > 0)
    inside = np.flatnonzero(lungs.any(axis=(1, 2))).tolist()
    reader = reader_on(frame, sample.volume, model, box_of(lungs))
    mask = np.zeros(lungs.shape, dtype=bool)
    for chunk, planes in lesion_probabilities(
        reader, frame, model, inside, model.minimum_lesion_hu
    ):
        for index, probability in zip(chunk, planes, strict=True):
            mask[index] = (probability >= model.threshold) & lungs[index]
    return frame.restore(mask)
