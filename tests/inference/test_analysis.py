"""The whole analysis of phantoms with known truth, with models that threshold HU."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hu_models import RULE, LesionsKnown, LungsByHu, LungsKnown, lungs_of, models
from numpy.typing import NDArray
from scipy import ndimage

from chestct.errors import ModelError, RejectReason, SeriesRejected
from chestct.findings import End, Extent, Outcome
from chestct.geometry import Geometry
from chestct.method import Method
from chestct.uids import derive_uid
from chestct.volume import Label, SliceSource, Volume
from inference.reading.analysis import Analysis, Stage, analyse
from inference.reading.frame import Frame
from inference.reading.lungs import Lungs
from inference.reading.postprocess import without_air
from phantom import Thorax

pytestmark = pytest.mark.slow

METHOD = Method()


def volume_of(thorax: Thorax, hu: NDArray[np.int16] | None = None) -> Volume:
    hu = thorax.hu if hu is None else hu
    source = SliceSource(sop_class_uid=derive_uid("c"), sop_instance_uid=derive_uid("i"))
    return Volume(
        hu=hu.copy(),
        geometry=Geometry(
            shape=hu.shape,
            origin=thorax.origin,
            row_cosines=(1.0, 0.0, 0.0),
            column_cosines=(0.0, 1.0, 0.0),
            pixel_spacing=thorax.spacing[1:],
            slice_spacing=thorax.spacing[0],
        ),
        sources=(source,) * hu.shape[0],
        series_uid=derive_uid("s"),
        frame_of_reference_uid=derive_uid("f"),
    )


def known(thorax: Thorax) -> LungsKnown:
    return LungsKnown(left=thorax.left_lung, right=thorax.right_lung)


def ill(thorax: Thorax) -> LesionsKnown:
    return LesionsKnown(lesion=thorax.lesion > 0)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def dark_lungs(small_thorax: Thorax) -> Lungs:
    return lungs_of(volume_of(small_thorax), LungsByHu())


def test_a_lesion_is_found_measured_and_reported_by_stage(small_thorax: Thorax) -> None:
    seen: list[tuple[Stage, float]] = []
    analysis = analyse(
        volume_of(small_thorax),
        models(known(small_thorax), ill(small_thorax)),
        METHOD,
        lambda stage, part: seen.append((stage, part)),
    )
    assert analysis.findings.presence.positive
    assert analysis.findings.extent is not Extent.NONE
    assert dice(analysis.lesion_map.lesion(), small_thorax.lesion > 0) > 0.95
    assert dice(analysis.lesion_map.left_lung(), small_thorax.left_lung) > 0.95
    assert dice(analysis.lesion_map.right_lung(), small_thorax.right_lung) > 0.95
    assert list(analysis.seconds) == list(Stage)
    assert list(dict.fromkeys(stage for stage, _ in seen)) == list(Stage)
    for stage in Stage:
        parts = [part for one, part in seen if one is stage]
        assert (parts[0], parts[-1]) == (0.0, 1.0)
        assert parts == sorted(parts)


def test_a_healthy_chest_has_no_lesion_and_is_read_once(healthy_thorax: Thorax) -> None:
    lesions = ill(healthy_thorax)
    volume = volume_of(healthy_thorax)
    analysis = analyse(volume, models(known(healthy_thorax), lesions), METHOD, lambda *_: None)
    assert not analysis.findings.presence.positive
    assert not analysis.lesion_map.lesion().any()
    assert analysis.findings.lesions == ()
    assert analysis.findings.extent is Extent.NONE
    assert lesions.read == _slices_of_the_lungs(analysis, volume)[:: RULE.stride]


def test_a_positive_scan_reads_every_slice_of_the_lungs_once(small_thorax: Thorax) -> None:
    lesions = ill(small_thorax)
    volume = volume_of(small_thorax)
    analysis = analyse(volume, models(known(small_thorax), lesions), METHOD, lambda *_: None)
    assert sorted(lesions.read) == _slices_of_the_lungs(analysis, volume)


def _slices_of_the_lungs(analysis: Analysis, volume: Volume) -> list[int]:
    """Return the middle slices of the slabs that hold lung."""
    middles = Frame.of(volume).middle_slices
    return [index for index in middles if (analysis.lesion_map.labels[index] > 0).any()]


def test_lesions_lie_in_lungs_and_reach_the_minimum_size(
    small_thorax: Thorax,
) -> None:
    method = replace(METHOD, minimum_lesion_ml=5.0)
    analysis = analyse(
        volume_of(small_thorax),
        models(known(small_thorax), ill(small_thorax)),
        method,
        lambda *_: None,
    )
    assert analysis.findings.lesions
    assert min(lesion.volume_ml for lesion in analysis.findings.lesions) >= 5.0
    both = analysis.lesion_map.left_lung() | analysis.lesion_map.right_lung()
    assert not (analysis.lesion_map.lesion() & ~both).any()


def test_a_positive_decision_without_a_lesion_is_indeterminate(
    small_thorax: Thorax,
) -> None:
    method = replace(METHOD, minimum_lesion_ml=1e6)
    volume = volume_of(small_thorax)
    found = models(known(small_thorax), ill(small_thorax))
    findings = analyse(volume, found, method, lambda *_: None).findings
    assert findings.presence.positive
    assert not findings.lesions
    assert findings.outcome is Outcome.INDETERMINATE
    assert "positive score, nothing outlined" in findings.indeterminate_reasons


def test_a_consolidation_missed_by_the_lung_network_is_added(small_thorax: Thorax) -> None:
    """The lungs lack the outer half of every lesion; the lesion network marks it all."""
    lesion = small_thorax.lesion > 0
    away = ndimage.distance_transform_edt(lesion)
    lost = lesion & (away < 4) & (small_thorax.hu > -300)
    assert lost.sum() > 0.1 * lesion.sum()
    blind = LungsKnown(left=small_thorax.left_lung & ~lost, right=small_thorax.right_lung & ~lost)
    method = replace(METHOD, minimum_lesion_ml=0.0)
    found = analyse(
        volume_of(small_thorax), models(blind, ill(small_thorax)), method, lambda *_: None
    ).lesion_map
    assert found.lesion()[lost].mean() > 0.9
    both = found.left_lung() | found.right_lung()
    assert both[lost].mean() > 0.9
    assert not found.left_lung()[small_thorax.right_lung].any()
    assert not found.right_lung()[small_thorax.left_lung].any()


def test_aerated_lung_is_not_lesion_and_no_positive_scan(healthy_thorax: Thorax) -> None:
    """The model marks all healthy lung as lesion; the density limit removes it."""
    everything = LesionsKnown(
        lesion=healthy_thorax.left_lung | healthy_thorax.right_lung, threshold=0.3
    )
    volume = volume_of(healthy_thorax)
    found = {
        least: analyse(
            volume,
            models(known(healthy_thorax), everything),
            replace(METHOD, minimum_lesion_hu=least),
            lambda *_: None,
        )
        for least in (None, -750.0)
    }
    assert found[None].findings.total.involved_percent > 99
    scores = {least: one.findings.presence.score for least, one in found.items()}
    assert scores[None] > scores[-750.0]
    marked = found[-750.0].lesion_map.lesion()
    assert found[-750.0].findings.total.involved_percent < 35
    assert (healthy_thorax.hu[marked] > -750).mean() > 0.8


def test_the_density_limit_applies_after_smoothing() -> None:
    """Single noisy voxels neither add to a lesion nor remove from it."""
    random = np.random.default_rng(0)
    plane = np.where(np.arange(60)[:, None] < 30, -650, -850) + random.normal(0, 60, (60, 60))
    found = without_air(plane.astype(np.int16), (0.7, 0.7), -750.0)
    assert found[:26].mean() > 0.99
    assert found[34:].mean() < 0.01
    wide = without_air(plane.astype(np.int16), (0.7, 0.1), -750.0)
    assert wide[:26].mean() > found[:26].mean() - 0.001


def test_a_lesion_model_without_a_presence_rule_is_rejected(small_thorax: Thorax) -> None:
    lesions = replace(ill(small_thorax), presence=None)
    with pytest.raises(ModelError, match="presence"):
        analyse(
            volume_of(small_thorax), models(known(small_thorax), lesions), METHOD, lambda *_: None
        )


def test_air_in_the_trachea_is_not_lung(small_thorax: Thorax, dark_lungs: Lungs) -> None:
    """The model marks all air inside the body as lung."""
    outside = ~(small_thorax.left_lung | small_thorax.right_lung)
    above = slice(40, None)
    trachea = outside[above] & (small_thorax.hu[above] < -850)
    # Between the voxels of the frame the surface is interpolated.
    assert ((dark_lungs.labels[above] > 0) & trachea).sum() < 10


def test_gas_beside_a_lung_is_dropped(small_thorax: Thorax) -> None:
    """A stomach in the chest (hiatal hernia) that the model takes for lung."""
    both = small_thorax.left_lung | small_thorax.right_lung
    away = ndimage.distance_transform_edt(~both, sampling=small_thorax.spacing)
    soft = (small_thorax.hu > -100) & (away > 8)
    left = small_thorax.left_lung[30]
    inside = np.zeros(left.shape, np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(np.argwhere(left)[:, ::-1].astype(np.int32)), 1)
    gas = np.zeros(both.shape, bool)
    gas[28:33] = soft[28:33] & inside.astype(bool) & (away[28:33] < 22)
    assert small_thorax.volume_ml(gas) > 5, "the heart lies beside the left lung"
    hu = np.where(gas, -985, small_thorax.hu).astype(np.int16)
    model = LungsKnown(left=small_thorax.left_lung | gas, right=small_thorax.right_lung)
    lungs = lungs_of(volume_of(small_thorax, hu), model)
    assert (lungs.labels[gas] > 0).mean() < 0.2


def test_lungs_are_complete_except_where_the_model_misses_them(
    small_thorax: Thorax, dark_lungs: Lungs
) -> None:
    truth = small_thorax.left_lung | small_thorax.right_lung
    assert dice(dark_lungs.labels > 0, truth) > 0.93


def test_consolidation_that_the_model_sees_stays_in_the_lung(small_thorax: Thorax) -> None:
    lungs = lungs_of(volume_of(small_thorax), known(small_thorax))
    dense = (small_thorax.lesion == 2) & small_thorax.left_lung
    assert (lungs.labels[dense] > 0).mean() > 0.85


def _with_a_lobe_full_of_water(thorax: Thorax) -> tuple[Volume, NDArray[np.bool_]]:
    """Return a scan whose right lung has no air in its lower half, and that half."""
    lobe = thorax.right_lung.copy()
    lobe[np.flatnonzero(lobe.any(axis=(1, 2)))[-1] // 2 :] = False
    return volume_of(thorax, np.where(lobe, 30, thorax.hu).astype(np.int16)), lobe


def test_an_airless_lobe_is_lung_where_both_networks_mark_it(
    small_thorax: Thorax,
) -> None:
    volume, lobe = _with_a_lobe_full_of_water(small_thorax)
    lungs = lungs_of(volume, known(small_thorax))
    assert ((lungs.airless == Label.RIGHT_LUNG) | (lungs.labels > 0))[lobe].mean() > 0.9
    assert not (lungs.airless > 0)[~lobe].any()
    marked = ill(small_thorax)
    for lesion, low, high in ((marked.lesion | lobe, 0.9, 1.0), (marked.lesion & ~lobe, 0.0, 0.8)):
        networks = models(known(small_thorax), replace(marked, lesion=lesion))
        found = analyse(volume, networks, METHOD, lambda *_: None).lesion_map
        assert low <= found.right_lung()[lobe].mean() <= high


def test_a_lesion_that_fills_an_airless_lobe_alone_makes_the_scan_positive(
    healthy_thorax: Thorax,
) -> None:
    volume, lobe = _with_a_lobe_full_of_water(healthy_thorax)
    lungs = lungs_of(volume, known(healthy_thorax))
    lesion = lobe & (lungs.airless > 0)
    networks = models(known(healthy_thorax), LesionsKnown(lesion=lesion))
    findings = analyse(volume, networks, METHOD, lambda *_: None).findings
    assert findings.presence.positive
    assert findings.lesions[0].volume_ml > 0.8 * healthy_thorax.volume_ml(lesion)


def test_a_lesion_does_not_flicker_from_slab_to_slab(small_thorax: Thorax) -> None:
    volume = volume_of(small_thorax)
    whole = small_thorax.lesion > 0
    slices = np.flatnonzero(whole.any(axis=(1, 2)))
    flickering = whole.copy()
    dropped = [slab for slab in Frame.of(volume).middle_slices if slab in slices][2:-2:3]
    flickering[dropped] = False
    assert dropped
    networks = models(known(small_thorax), LesionsKnown(lesion=flickering, threshold=0.4))
    found = analyse(volume, networks, METHOD, lambda *_: None).lesion_map.lesion()
    both = whole[1:] & whole[:-1]
    for index in dropped:
        continuing = both[index] & both[index - 1]
        assert found[index][continuing].mean() > 0.9


def test_an_airless_lobe_is_not_lung_where_the_model_is_unsure(small_thorax: Thorax) -> None:
    volume, lobe = _with_a_lobe_full_of_water(small_thorax)
    lungs = lungs_of(volume, replace(known(small_thorax), sure=0.7))
    assert not lungs.airless.any()
    air = small_thorax.right_lung & ~lobe
    assert (lungs.labels[air] == Label.RIGHT_LUNG).mean() > 0.95


def test_a_thin_rim_is_not_lung_even_if_the_model_is_sure(small_thorax: Thorax) -> None:
    """Four millimetres of the diaphragm or the wall, in front of the hull of the lung."""
    lung = small_thorax.right_lung
    away = ndimage.distance_transform_edt(~lung, sampling=small_thorax.spacing)
    soft = (small_thorax.hu > -100) & ~small_thorax.left_lung
    rim = soft & (away <= 4)
    for index in np.flatnonzero(lung.any(axis=(1, 2))):
        hull = np.zeros(lung.shape[1:], np.uint8)
        points = np.argwhere(lung[index])[:, ::-1].astype(np.int32)
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
        rim[index] &= ~hull.astype(bool)
    assert small_thorax.volume_ml(rim) > 20
    model = replace(known(small_thorax), right=lung | rim)
    lungs = lungs_of(volume_of(small_thorax), model)
    assert (lungs.airless[rim] > 0).mean() < 0.1
    assert (lungs.labels[rim] > 0).mean() < 0.1


@pytest.mark.parametrize(("hu", "top"), [(-95, 3), (40, -2)])
def test_tissue_below_the_lungs_is_not_lung_even_if_the_model_is_sure(
    hu: int, top: int, small_thorax: Thorax
) -> None:
    """Fat around a kidney that touches the lung, and solid tissue apart from it."""
    scan, right = small_thorax.hu.copy(), small_thorax.right_lung.copy()
    lowest = int(np.flatnonzero(right.any(axis=(1, 2)))[0])
    assert lowest >= 3
    below = np.zeros(right.shape, bool)
    below[: lowest + top] = right[lowest + 4]
    below &= ~right
    scan[below] = hu
    model = LungsKnown(left=small_thorax.left_lung, right=right | below)
    lungs = lungs_of(volume_of(small_thorax, scan), model)
    assert ((lungs.labels > 0) | (lungs.airless > 0))[below].mean() < 0.06
    assert dice(lungs.labels > 0, small_thorax.left_lung | right) > 0.95


def test_gas_outside_the_lungs_is_dropped(small_thorax: Thorax) -> None:
    """A bubble in the belly, below the lungs, that the model takes for lung."""
    hu = small_thorax.hu
    below = np.full((6, *hu.shape[1:]), 40, np.int16)
    below[2:4, 60:72, 95:110] = -950
    hu = np.concatenate([below, hu])
    lungs = lungs_of(volume_of(small_thorax, hu), LungsByHu())
    assert not lungs.labels[:5].any()


def test_a_scan_without_lungs_is_rejected(small_thorax: Thorax) -> None:
    water = np.where(small_thorax.hu > -300, small_thorax.hu, 40).astype(np.int16)
    with pytest.raises(SeriesRejected) as caught:
        lungs_of(volume_of(small_thorax, water), LungsByHu())
    assert caught.value.reason is RejectReason.NO_LUNGS


@pytest.mark.parametrize(
    ("kept", "cut"),
    [
        (slice(25, 50), (End.HEAD, End.FEET)),
        (slice(25, None), (End.FEET,)),
        (slice(0, 50), (End.HEAD,)),
    ],
)
def test_a_cut_lung_is_flagged_by_its_end(
    kept: slice, cut: tuple[End, ...], small_thorax: Thorax
) -> None:
    part = replace(
        small_thorax,
        hu=small_thorax.hu[kept],
        left_lung=small_thorax.left_lung[kept],
        right_lung=small_thorax.right_lung[kept],
        lesion=small_thorax.lesion[kept],
    )
    lungs = lungs_of(volume_of(part), known(part))
    assert lungs.cut == cut
    ends = " and the ".join(f"{end} end" for end in cut)
    assert f"the lungs reach the {ends} of the scan: part may be missing" in lungs.quality_flags
    whole = lungs_of(volume_of(small_thorax), known(small_thorax))
    assert whole.cut == ()
    assert not any("end of the scan" in flag for flag in whole.quality_flags)


def test_swapped_sides_are_flagged(small_thorax: Thorax) -> None:
    swapped = LungsKnown(left=small_thorax.right_lung, right=small_thorax.left_lung)
    flags = lungs_of(volume_of(small_thorax), swapped).quality_flags
    assert any("could not be told apart" in flag for flag in flags)


def test_the_domes_of_the_diaphragm_are_not_lung(
    healthy_thorax: Thorax,
) -> None:
    lungs = healthy_thorax.left_lung | healthy_thorax.right_lung
    found = lungs_of(volume_of(healthy_thorax), known(healthy_thorax)).labels > 0
    pixel = healthy_thorax.spacing[1] * healthy_thorax.spacing[2]
    ringed = [float((ndimage.binary_fill_holes(plane) & ~plane).sum() * pixel) for plane in lungs]
    assert max(ringed) > 2000, "the phantom has a dome that lung rings"
    for truth, plane in zip(lungs, found, strict=True):
        parts, _ = ndimage.label(ndimage.binary_opening(plane & ~truth))
        assert np.bincount(parts.ravel())[1:].max(initial=0) * pixel < 450


@pytest.mark.parametrize("radius_mm", [7.0, 22.0], ids=["nodule", "mass"])
def test_tissue_that_lung_surrounds_on_all_sides_is_lung(
    radius_mm: float, healthy_thorax: Thorax
) -> None:
    right = healthy_thorax.right_lung
    depth = ndimage.distance_transform_edt(right, sampling=healthy_thorax.spacing)
    centre = np.unravel_index(int(depth.argmax()), right.shape)
    assert depth[centre] > radius_mm
    away = np.sqrt(
        sum(
            ((axis - at) * step) ** 2
            for axis, at, step in zip(
                np.indices(right.shape), centre, healthy_thorax.spacing, strict=True
            )
        )
    )
    ball = away < radius_mm
    hu = np.where(ball, np.int16(40), healthy_thorax.hu)
    lost = LungsKnown(left=healthy_thorax.left_lung, right=right & ~ball)
    labels = lungs_of(volume_of(healthy_thorax, hu), lost).labels
    assert (labels[ball] == Label.RIGHT_LUNG).all()


@pytest.mark.parametrize("network", ["lungs", "lesions"])
def test_pixels_too_large_for_a_model_are_rejected_with_its_name(
    small_thorax: Thorax, network: str
) -> None:
    volume = volume_of(small_thorax)
    widest = max(volume.geometry.pixel_spacing)
    able, unable = (models(known(small_thorax), ill(small_thorax)) for _ in range(2))
    getattr(able, network).coarsest_mm = widest
    getattr(unable, network).coarsest_mm = widest - 0.05
    assert analyse(volume, able, METHOD, lambda *_: None).findings.presence.positive
    with pytest.raises(
        SeriesRejected, match=r"Pixel Spacing is 1\.68 mm, hu \d reads at most 1\.63"
    ) as caught:
        analyse(volume, unable, METHOD, lambda *_: None)
    assert caught.value.reason is RejectReason.TOO_COARSE
