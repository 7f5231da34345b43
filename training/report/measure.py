"""Runs all measurements of the report, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from inference.networks.session import OnnxModel
from inference.ports import ModelSet
from phantom import PhantomSpec
from training.chests import LabelledChest
from training.data import SliceSet
from training.real import known_series, read_volume
from training.real_labels.split import known_chests
from training.report.cases import (
    Case,
    CaseReading,
    phantom_cases,
    plain_cases,
    read_case,
    synthetic_cases,
)
from training.report.changes import changes
from training.report.frontend import measure_change
from training.report.gallery import Tile
from training.report.labelled import LabelledReading, read_labelled
from training.report.painted import PaintedReading, part_without_lesions, read_painted
from training.report.real import SeriesReading, SingleReading, read_series, read_single
from training.report.records import FrontEndRecord, MirrorRecord, PatientRecord, SliceRecord, Source
from training.report.slices import (
    combine,
    false_tiles,
    measure_mirror,
    measure_patients,
    measure_slices,
    read_both_ways,
    worst_tiles,
)

SEEDS = {Source.HELD_OUT: range(12001, 12019), Source.SEEN: range(12001, 12007)}
"""Seeds of the synthetic lesions, never trained on."""
_FRONT_END = (Source.PHANTOM, Source.HELD_OUT)
_FRONT_END_CASES = 3
"""Of each of those sources."""

Tell = Callable[[str], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportScope:
    """The data to measure on.

    Attributes:
        slices: 8-bit slices with masks.
        chests: Labelled chests, each with a name of the committed split.
        painted: Number of scans of each kind of opacity in each chest without lesions.
        phantoms: Phantoms on which nothing was trained or chosen.
        plain: Seeds of plain chests, likewise.
        series: Folders of real series; those of the committed list get synthetic lesions too.
        seeds: Of the synthetic lesions, by source.
        singles: Single DICOM slices.
    """

    slices: SliceSet
    chests: tuple[LabelledChest, ...]
    painted: int
    phantoms: tuple[PhantomSpec, ...]
    plain: tuple[int, ...]
    series: tuple[Path, ...]
    seeds: dict[Source, range]
    singles: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All records, and the pictures from which the gallery is chosen.

    ``seconds`` are wall-clock seconds by part.
    """

    patients: tuple[PatientRecord, ...]
    slices: tuple[SliceRecord, ...]
    mirror: tuple[MirrorRecord, ...]
    worst_slices: tuple[Tile, ...]
    false_slices: tuple[Tile, ...]
    labelled: tuple[LabelledReading, ...]
    painted: tuple[PaintedReading, ...]
    cases: tuple[CaseReading, ...]
    front_end: tuple[FrontEndRecord, ...]
    series: tuple[SeriesReading, ...]
    singles: tuple[SingleReading, ...]
    seconds: dict[str, float]


def measure(scope: ReportScope, lungs: OnnxModel, lesions: OnnxModel, tell: Tell) -> Measured:
    """Measure on everything in ``scope``; ``tell`` receives the progress.

    Raises:
        SeriesRejected: A real series cannot be loaded.
    """
    models = ModelSet(lungs=lungs, lesions=lesions, provider="CPU")
    seconds: dict[str, float] = {}
    with _clock("slices", seconds):
        tell(f"{len(scope.slices.volumes)} slices")
        lung, lesion = (read_both_ways(model, scope.slices) for model in (lungs, lesions))
        found = combine(
            lung[lungs.manifest.input.mirror].mask, lesion[lesions.manifest.input.mirror].mask
        )
        slices = measure_slices(found, scope.slices)
        patients = measure_patients(found, scope.slices, slices)
    labelled = _timed("labelled chests", seconds, _read_labelled(scope.chests, models, tell))
    painted = _timed("painted opacities", seconds, _read_painted(scope, models, tell))
    with _clock("cases with truth", seconds):
        readings, kept = _read_cases(scope, models, tell)
    front_end = _timed("front end", seconds, _front_end(kept, lungs, lesions, tell))
    with _clock("real series and slices", seconds):
        series = tuple(_read_series(scope, models, tell))
        singles = tuple(read_single(path, models) for path in scope.singles)
    return Measured(
        patients=patients,
        slices=slices,
        mirror=measure_mirror(lung, lesion, scope.slices),
        worst_slices=worst_tiles(found, scope.slices, slices),
        false_slices=false_tiles(found, scope.slices, slices),
        labelled=labelled,
        painted=painted,
        cases=readings,
        front_end=front_end,
        series=series,
        singles=singles,
        seconds=seconds,
    )


@contextmanager
def _clock(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _timed(name: str, seconds: dict[str, float], readings: Iterable[_T]) -> tuple[_T, ...]:
    with _clock(name, seconds):
        return tuple(readings)


def _read_labelled(
    chests: tuple[LabelledChest, ...], models: ModelSet, tell: Tell
) -> Iterator[LabelledReading]:
    known = known_chests()
    for chest in chests:
        tell(chest.name)
        yield read_labelled(chest, known[chest.name], models)


def _read_painted(scope: ReportScope, models: ModelSet, tell: Tell) -> Iterator[PaintedReading]:
    known = known_chests()
    for chest in scope.chests:
        free, part = part_without_lesions(chest, known[chest.name]), known[chest.name].part
        if free is None:
            continue
        for reading in read_painted(free, part, scope.painted, models):
            tell(f"{chest.name}: {reading.record.kind}, seed {reading.record.seed}")
            yield reading


def _read_cases(
    scope: ReportScope, models: ModelSet, tell: Tell
) -> tuple[tuple[CaseReading, ...], tuple[Case, ...]]:
    """Return the readings, and the few cases for the changes of the front end."""
    readings: list[CaseReading] = []
    kept: list[Case] = []
    synthetic = (_synthetic(folder, scope.seeds, models) for folder in scope.series)
    made = (phantom_cases(scope.phantoms), plain_cases(scope.plain))
    for case in chain(*made, *synthetic):
        tell(case.name)
        readings.append(read_case(case, models))
        of_source = sum(one.source is case.source for one in kept)
        if case.source in _FRONT_END and case.lesion.any() and of_source < _FRONT_END_CASES:
            kept.append(case)
    return tuple(readings), tuple(kept)


def _synthetic(folder: Path, seeds: dict[Source, range], models: ModelSet) -> Iterator[Case]:
    """Yield the cases of a series of the committed list; nothing for other series."""
    known = known_series().get(read_volume(folder).series_uid)
    if known is not None:
        source = Source.HELD_OUT if known.part == "test" else Source.SEEN
        yield from synthetic_cases(folder, seeds[source], source, models.lungs)


def _front_end(
    cases: tuple[Case, ...], lungs: OnnxModel, lesions: OnnxModel, tell: Tell
) -> Iterator[FrontEndRecord]:
    for change in changes(lesions.manifest.input):
        tell(f"front end: {change.name}")
        for case in cases:
            yield measure_change(case, change, lungs, lesions)


def _read_series(scope: ReportScope, models: ModelSet, tell: Tell) -> Iterator[SeriesReading]:
    for folder in scope.series:
        volume = read_volume(folder)
        known = known_series().get(volume.series_uid)
        name = known.name if known else folder.name
        tell(name)
        yield read_series(name, volume, models)
