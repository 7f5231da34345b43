"""One patient, stored in any way: the same masks in the patient, and the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from ct_series import SeriesMaker, received
from hu_models import LungsByHu, ReaderOf, models
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from storage_ways import WAYS, Way, store, stored

from chestct.findings import Findings
from chestct.method import Method
from chestct.orientation import CanonicalView, canonical
from chestct.results import ModelIdentity
from chestct.series import Series
from chestct.volume import Volume
from inference.loading.loader import LoadingPolicy, load
from inference.ports import Box, ModelSet, PresenceRule
from inference.reading.analysis import Analysis, analyse
from phantom import LesionKind, LesionSpec, Thorax, make_thorax, small_spec, write_series

METHOD = Method(minimum_lesion_hu=-750.0)


_RULE = PresenceRule(certainty=0.6, volume_ml=0.5, stride=3)


@dataclass
class LesionsByHu:
    """Marks what is dense, by voxels before and behind: like a network, it has a direction."""

    reads_body: bool
    classes: tuple[str, ...] = ("lesion",)
    threshold: float = 0.3
    presence: PresenceRule | None = _RULE
    identity: ModelIdentity = field(
        default_factory=lambda: ModelIdentity(name="hu", version="3", digest="2" * 64, licence="-")
    )
    minimum_lesion_ml: float = 0.1
    minimum_lesion_hu: float | None = -750.0
    coarsest_mm: float | None = None

    def reader(self, volume: Volume, box: Box | None = None) -> ReaderOf:
        """Return a reader of the whole volume."""
        del box
        return ReaderOf(self, volume)

    def probabilities(self, volume: Volume, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return 0..1 (slice, 1, row, column)."""
        planes = volume.hu[list(slices)].astype(np.float32)
        mixed = planes.copy()
        mixed[:, 1:] += 0.3 * (planes[:, :-1] - planes[:, 1:])
        mixed[:, :, 2:] += 0.2 * (planes[:, :, :-2] - planes[:, :, 2:])
        return np.clip((mixed[:, None] + 900) / 600, 0, 1).astype(np.float32)


def networks(*, framed: bool) -> ModelSet:
    """Return networks that read the frame, or the slices of the volume."""
    return models(LungsByHu(reads_body=framed), LesionsByHu(reads_body=framed))


def read(volume: Volume, found: ModelSet) -> Analysis:
    return analyse(volume, found, METHOD, lambda *_: None)


def numbers(findings: Findings) -> dict[str, object]:
    """Return all findings but the places that are positions in the patient or stored indices."""
    plain = asdict(findings)
    for lesion in plain["lesions"]:
        del lesion["centroid"], lesion["diameter"]["slice_index"], lesion["diameter"]["long_axis"]
    return plain


def ends(volume: Volume, findings: Findings) -> list[tuple[float, ...]]:
    """Return where each lesion and the ends of its diameter lie in the patient, mm."""
    return [
        place
        for lesion in findings.lesions
        for place in (
            lesion.centroid,
            *(
                volume.geometry.position((lesion.diameter.slice_index, *end))
                for end in lesion.diameter.long_axis
            ),
        )
    ]


def require_same(volume: Volume, analysis: Analysis, other: Volume, found: Analysis) -> None:
    """Check that two analyses of one patient agree: labels and numbers to the bit."""
    view = CanonicalView.of(other.geometry)
    labels = CanonicalView.of(volume.geometry).turn(analysis.lesion_map.labels)
    assert np.array_equal(view.turn(found.lesion_map.labels), labels)
    assert numbers(found.findings) == numbers(analysis.findings)
    np.testing.assert_allclose(
        ends(other, found.findings), ends(volume, analysis.findings), atol=1e-6
    )


@st.composite
def chests(draw: st.DrawFn) -> Volume:
    """Draw a small chest with lesions in both lungs, turned by some degrees on the table."""
    places = st.floats(0.15, 0.9)
    spec = small_spec(
        shape=(36, 112, 124),
        slice_spacing_mm=8.0,
        pixel_spacing_mm=3.1,
        seed=draw(st.integers(1, 4)),
        lesions=tuple(
            LesionSpec(
                kind=draw(st.sampled_from(LesionKind)),
                side=side,
                center=(draw(places), draw(places), draw(places)),
                radius_mm=(20.0, 16.0, 24.0),
            )
            for side in ("left", "right")
        ),
    )
    volume = make_thorax(spec).volume()
    angle = np.radians(draw(st.sampled_from([0.0, 7.0])))
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    grid = replace(
        volume.geometry, row_cosines=(cosine, sine, 0.0), column_cosines=(-sine, cosine, 0.0)
    )
    return replace(volume, geometry=grid)


@settings(max_examples=5, phases=[Phase.generate])  # to shrink would take minutes
@given(volume=chests(), framed=st.booleans(), way=st.sampled_from(WAYS[1:]))
def test_storage_changes_neither_labels_nor_numbers(
    volume: Volume, way: Way, *, framed: bool
) -> None:
    found = networks(framed=framed)
    analysis = read(volume, found)
    assert analysis.findings.lesions
    other = stored(volume, way)
    require_same(volume, analysis, other, read(other, found))


def _on_the_table(way: Way) -> str:
    """Return a Patient Position that may lead to such images."""
    if way.transposed:
        return "HFDR" if way.rows else "FFDL"
    return {(False, False): "HFS", (True, True): "HFP"}.get((way.rows, way.columns), "FFS")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_series_is_loaded_whatever_way_it_is_stored(make_ct: SeriesMaker, way: Way) -> None:
    usual = load(make_ct(), LoadingPolicy())

    def change(_: int, image: Dataset) -> None:
        store(image, way)
        image.PatientPosition = _on_the_table(way)

    shown = canonical(load(make_ct(change), LoadingPolicy()))
    assert np.array_equal(shown.hu, usual.hu)
    assert [one.sop_instance_uid for one in shown.sources] == [
        one.sop_instance_uid for one in usual.sources
    ]
    assert shown.geometry == usual.geometry


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_leaning_slices_have_one_spacing_whatever_corner_their_position_names(
    make_ct: SeriesMaker, way: Way
) -> None:
    lean = np.radians(3.7)
    down = (0.0, float(np.cos(lean)), float(np.sin(lean)))
    axes = way.axes((1.0, 0.0, 0.0), down)
    corner = 0.75 * 33 * way.columns * np.array([1.0, 0.0, 0.0])
    corner += 1.5 * 39 * way.rows * np.array(down)

    def change(index: int, image: Dataset) -> None:
        store(image, way)
        place = corner + 2.0 * index * np.cross((1.0, 0.0, 0.0), down) + (-31.3, 17.1, -203.7)
        image.ImagePositionPatient = [f"{value:.10g}" for value in place]
        image.ImageOrientationPatient = [f"{value:.8f}" for cosines in axes for value in cosines]

    assert load(make_ct(change), LoadingPolicy()).geometry.slice_spacing == 2.0


@pytest.mark.parametrize("way", [WAYS[0], WAYS[5]], ids=str)
def test_images_of_one_patient_give_one_result_however_they_are_stored(
    way: Way, small_thorax: Thorax, tmp_path: Path
) -> None:
    """The files of a series, in another order, with other numbers and another position."""
    usual = load(_series(small_thorax, tmp_path / "usual", WAYS[0], first=1), LoadingPolicy())
    other = load(_series(small_thorax, tmp_path / "other", way, first=300), LoadingPolicy())
    found = networks(framed=True)
    require_same(usual, read(usual, found), other, read(other, found))


def _series(thorax: Thorax, folder: Path, way: Way, first: int) -> Series:
    """Write the images of a series; those of another way are numbered from the feet."""
    instances = []
    for number, path in enumerate(write_series(thorax, folder)):
        image = dcmread(path)
        store(image, way)
        image.InstanceNumber = first + (number if first > 1 else -number)
        image.PatientPosition = _on_the_table(way)
        image.save_as(path)
        instances.append(received(path, image, series_uid=image.SeriesInstanceUID))
    return Series.of(instances)
