"""Analyses a volume: lungs, presence, lesions only when present, measurements.

After Pezzano et al. 2021 (CoLe-CNN+): lung delineation, then the decision on the presence of a
lesion, then its segmentation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.errors import ModelError, RejectReason, SeriesRejected
from chestct.findings import Findings, Side
from chestct.geometry import Geometry
from chestct.method import Method, Presence
from chestct.orientation import CanonicalView
from chestct.results import ModelIdentity
from chestct.volume import Label, LesionMap, Volume, in_lung, is_lesion
from inference.ports import ModelSet, PresenceRule, SegmentationModel
from inference.reading.attach import attach
from inference.reading.density import consolidated
from inference.reading.frame import Frame, lung_of
from inference.reading.lungs import delineate
from inference.reading.plausibility import require_air
from inference.reading.postprocess import box_of, lesions_of
from inference.reading.presence import certain, decide
from inference.reading.quantify import measure
from inference.reading.readers import lesion_probabilities, reader_on
from inference.reading.surroundings import with_air_around

_LEFT, _RIGHT = np.uint8(Label.LEFT_LUNG), np.uint8(Label.RIGHT_LUNG)
_GROUND_GLASS = np.uint8(Label.LEFT_GROUND_GLASS - Label.LEFT_LUNG)
_CONSOLIDATION = np.uint8(Label.LEFT_CONSOLIDATION - Label.LEFT_GROUND_GLASS)
"""Steps from a label to that of the same lung with opacity, and with denser opacity."""
_HALF_PRECISION = 1e-3
"""Probabilities are compared as float16, which may round them up by less."""


class Stage(StrEnum):
    """The stages of an analysis, in order."""

    LUNGS = "lungs"
    PRESENCE = "presence"
    LESIONS = "lesions"
    MEASURE = "measure"


Progress = Callable[[Stage, float], None]
"""Receives the stage and its finished part, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The result of an analysis; ``seconds`` are wall-clock seconds per stage."""

    lesion_map: LesionMap
    findings: Findings
    models: tuple[ModelIdentity, ...]
    seconds: Mapping[Stage, float]


def analyse(volume: Volume, models: ModelSet, method: Method, progress: Progress) -> Analysis:
    """Analyse an axial chest volume, in canonical orientation however it is stored.

    Raises:
        SeriesRejected: The volume has no lungs, or larger pixels than a model can read; or no
            opacity was found in a lung that is dense as a whole.
        ModelError: The lesion model has no presence rule.
    """
    _require_fine_enough(volume.geometry, models)
    seconds: dict[Stage, float] = {}
    view = CanonicalView.of(volume.geometry)
    upright = view.volume(volume)
    with _stage(Stage.LUNGS, seconds, progress):
        frame = Frame.of(upright)
        lungs = delineate(frame, upright, models.lungs, lambda part: progress(Stage.LUNGS, part))
    with _stage(Stage.PRESENCE, seconds, progress):
        reader = _LesionReader(frame, upright, models.lesions, lungs.with_airless, method)
        presence = reader.decide_presence(lambda part: progress(Stage.PRESENCE, part))
        if not presence.positive:
            require_air(lungs.labels, frame.volume)
    lesion, sides = np.zeros(lungs.labels.shape, dtype=bool), lungs.labels
    with _stage(Stage.LESIONS, seconds, progress):
        if presence.positive:
            marked = reader.segment(lambda part: progress(Stage.LESIONS, part)) & lungs.within
            sides = attach(marked, lungs.including(marked), frame.volume)
            lesion = lesions_of(marked, sides, frame.volume.geometry, method.minimum_lesion_ml)
    with _stage(Stage.MEASURE, seconds, progress):
        lesion_map = _restored(view, frame, sides, lesion, method)
        findings = measure(
            volume,
            lesion_map,
            presence,
            method,
            lungs.quality_flags,
            missing=lungs.missing,
            cut=lungs.cut,
            higher_base=lungs.higher_base,
        )
    return Analysis(
        lesion_map=lesion_map,
        findings=findings,
        models=(models.lungs.identity, models.lesions.identity),
        seconds=seconds,
    )


def _require_fine_enough(geometry: Geometry, models: ModelSet) -> None:
    """Reject pixels so large that vessels look like nodules to a model."""
    widest = max(geometry.pixel_spacing)
    for model in (models.lungs, models.lesions):
        most, name = model.coarsest_mm, f"{model.identity.name} {model.identity.version}"
        if most is not None and widest > most + 1e-3:
            raise SeriesRejected(
                RejectReason.TOO_COARSE,
                f"Pixel Spacing is {widest:g} mm, {name} reads at most {most:g} mm",
            )


def _consolidation(
    volume: Volume, sides: NDArray[np.uint8], lesion: NDArray[np.bool_], method: Method
) -> NDArray[np.bool_]:
    """Return the part of the lesions that is consolidation, decided for each lung by itself."""
    left, right = (
        consolidated(lesion & (sides == lung), volume, method)
        for lung in (Label.LEFT_LUNG, Label.RIGHT_LUNG)
    )
    return left | right


def _restored(
    view: CanonicalView,
    frame: Frame,
    sides: NDArray[np.uint8],
    lesion: NDArray[np.bool_],
    method: Method,
) -> LesionMap:
    """Return the labels of lungs, ground-glass and consolidation on the stored grid.

    A lesion may come out smaller there, in parts, or in both lungs: the minimum holds there.
    """
    dense = _consolidation(frame.volume, sides, lesion, method)
    stored = np.zeros(view.stored.shape, dtype=np.uint8)
    labels = view.turn(stored)
    box = frame.box_in_source(box_of(sides))
    left, right = (sides == Label.LEFT_LUNG, sides == Label.RIGHT_LUNG)
    for index, planes in frame.restored_planes([left, right, lesion, dense & lesion], box):
        lung = lung_of(planes[0], planes[1])
        lung[planes[2] & (lung > 0)] += _GROUND_GLASS
        lung[planes[3] & is_lesion(lung)] += _CONSOLIDATION
        labels[index, box[1], box[2]] = lung
    if lesion.any():
        _drop_small(labels[frame.box_in_source(box_of(lesion))], frame.source, method)
    return LesionMap(labels=stored, geometry=view.stored)


def _drop_small(labels: NDArray[np.uint8], geometry: Geometry, method: Method) -> None:
    """Make lung of lesions smaller than the minimum."""
    marked = is_lesion(labels)
    sides = np.where(in_lung(labels, Side.LEFT), _LEFT, _RIGHT)
    small = marked & ~lesions_of(marked, sides, geometry, method.minimum_lesion_ml)
    labels[small] = sides[small]


@contextmanager
def _stage(stage: Stage, seconds: dict[Stage, float], progress: Progress) -> Iterator[None]:
    progress(stage, 0.0)
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
    progress(stage, 1.0)


class _LesionReader:
    """Reads lesion probabilities on the frame, slab by slab, and keeps them."""

    def __init__(
        self,
        frame: Frame,
        volume: Volume,
        model: SegmentationModel,
        lungs: NDArray[np.bool_],
        method: Method,
    ) -> None:
        if model.presence is None:
            raise ModelError(
                f"the lesion model {model.identity.name} has no [presence] rule in its manifest"
            )
        self._frame, self._lungs, self._model = frame, lungs, model
        self._reader = reader_on(frame, volume, model, box_of(lungs))
        self._rule: PresenceRule = model.presence
        self._least_hu = method.minimum_lesion_hu
        self._known: dict[int, NDArray[np.float16]] = {}
        self._inside = np.flatnonzero(lungs.any(axis=(1, 2))).tolist()

    def decide_presence(self, progress: Callable[[float], None]) -> Presence:
        """Decide on the presence of a lesion from every ``stride``-th slab of the lungs."""
        chosen = self._inside[:: self._rule.stride]
        self._read(chosen, progress, self._rule.certainty - _HALF_PRECISION)
        return decide([self._certain_ml(index) for index in chosen], self._rule)

    def _certain_ml(self, index: int) -> float:
        """Return the volume in a slab that counts for the presence of a lesion, ml."""
        lungs, volume = self._lungs[index], self._frame.volume
        marks = certain(self._known[index], lungs, self._rule.certainty)
        counted = with_air_around(marks, lungs, volume.hu[index], volume.geometry.pixel_spacing)
        return float(counted.sum()) * volume.geometry.voxel_ml

    def segment(self, progress: Callable[[float], None]) -> NDArray[np.bool_]:
        """Return the marked voxels in all slabs of the lungs, inside or outside the lungs.

        The network reads each slab almost alone, so its marks may flicker from slab to slab. The
        probabilities are therefore averaged over three slabs, weighted 1:2:1. Aerated lung, whose
        probability is 0, stays unmarked.
        """
        unfinished = set(self._reader.unfinished(self._inside))
        self._read([i for i in self._inside if i in unfinished or i not in self._known], progress)
        probability = np.zeros(self._lungs.shape, dtype=np.float32)
        for index, known in self._known.items():
            probability[index] = known
        smooth = ndimage.convolve1d(probability, (0.25, 0.5, 0.25), axis=0, mode="nearest")
        marked: NDArray[np.bool_] = (smooth >= self._model.threshold) & (probability > 0)
        return marked

    def _read(
        self, slabs: list[int], progress: Callable[[float], None], least: float = 0.0
    ) -> None:
        """Read the probabilities of slabs; those below ``least`` may be too low."""
        done = 0
        for chunk, planes in lesion_probabilities(
            self._reader, self._frame, self._model, slabs, self._least_hu, least=least
        ):
            for index, probability in zip(chunk, planes, strict=True):
                self._known[index] = probability.astype(np.float16)
            done += len(chunk)
            progress(done / len(slabs))
