"""The report on true HU: cases with truth, a changed front end, scans without truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dark_lungs import case_of, write_dark_lungs
from hu_models import LesionsKnown, LungsKnown, models
from linear_models import ModelFolder, contract, volume_of

from inference.networks.session import OnnxModel
from phantom import Thorax, small_spec
from training.metrics import Mask
from training.report.cases import CaseReading, phantom_cases, plain_cases, read_case
from training.report.changes import AS_SHIPPED, Change, changes
from training.report.frontend import measure_change
from training.report.real import read_series, single_volume


def test_every_third_plain_chest_has_no_lesion() -> None:
    sick, clean = plain_cases((2002, 2001))
    assert sick.lesion.any()
    assert not clean.lesion.any()
    assert not (sick.lesion & ~sick.lungs).any()


@pytest.fixture
def networks(folder_of_models: ModelFolder) -> tuple[OnnxModel, OnnxModel]:
    return write_dark_lungs(folder_of_models)


def reading_of(thorax: Thorax, found: Mask) -> CaseReading:
    known = LungsKnown(left=thorax.left_lung, right=thorax.right_lung)
    return read_case(case_of(thorax), models(known, LesionsKnown(found)))


def test_a_perfect_result_has_no_error(small_thorax: Thorax) -> None:
    found = reading_of(small_thorax, small_thorax.lesion > 0).record
    assert found.has_lesions
    assert found.positive
    assert found.lesion.dice > 0.97
    assert found.distances is not None
    assert found.distances.average < 0.5
    assert found.lesions.hit == found.lesions.true > 0
    assert found.lesions.false == 0
    assert found.involved_percent == pytest.approx(found.true_involved_percent, abs=0.2)


def test_a_missed_and_a_false_lesion_are_seen_and_shown(small_thorax: Thorax) -> None:
    """Only the lesion in the right lung is found; a block in the left lung is made up."""
    truth = small_thorax.lesion > 0
    left = truth & small_thorax.left_lung
    lungs = np.argwhere(small_thorax.left_lung & ~left)
    center = lungs[np.abs(lungs - np.median(lungs, axis=0)).sum(axis=1).argmin()]
    made_up = np.zeros_like(truth)
    made_up[tuple(slice(one - 2, one + 3) for one in center)] = True
    made_up &= small_thorax.left_lung & ~truth
    found = reading_of(small_thorax, (truth & small_thorax.right_lung) | made_up)
    count = found.record.lesions
    assert count.false == 1
    assert count.hit < count.true
    assert found.record.lesion.dice < 1
    (false,) = found.false
    assert false.truth is not None
    assert false.found.any()
    assert not (false.found & false.truth).all()
    (bad,) = found.worst
    assert bad.badness == pytest.approx(-found.record.lesion.dice)


def test_a_lesion_free_scan_comes_out_clean(healthy_thorax: Thorax) -> None:
    found = reading_of(healthy_thorax, healthy_thorax.lesion > 0)
    assert not found.record.has_lesions
    assert not found.record.positive
    assert found.record.involved_percent == 0
    assert found.worst == found.false == ()


def test_a_refused_scan_counts_as_nothing_found(small_thorax: Thorax) -> None:
    none = np.zeros_like(small_thorax.left_lung)
    lesions = LesionsKnown(small_thorax.lesion > 0)
    found = read_case(case_of(small_thorax), models(LungsKnown(left=none, right=none), lesions))
    assert found.record.refused is not None
    assert "lung" in found.record.refused
    assert (found.record.lung_dice, found.record.lesion.dice) == (0.0, 0.0)
    assert found.record.lesions.true > 0


def test_phantoms_are_cases_with_their_truth() -> None:
    (case,) = phantom_cases(
        [small_spec(shape=(14, 64, 64), slice_spacing_mm=20.0, pixel_spacing_mm=6.0)]
    )
    assert case.lesion.any()
    assert not (case.lesion & ~case.lungs).any()
    assert case.volume.hu.shape == case.lesion.shape


def test_the_front_end_changes_one_thing(
    networks: tuple[OnnxModel, OnnxModel], small_thorax: Thorax
) -> None:
    lungs, lesions = networks
    case = case_of(small_thorax)
    shipped = measure_change(case, Change(name=AS_SHIPPED), lungs, lesions)
    assert shipped.lesion_dice > 0.3
    bright = Change(name="bright", contract={"window": (-3000.0, -1000.0)})
    assert measure_change(case, bright, lungs, lesions).lung_dice == 0
    assert lesions.manifest.input.window == (-1000.0, 1000.0)
    assert measure_change(case, Change(name=AS_SHIPPED), lungs, lesions) == shipped


def test_the_density_rule_of_the_manifest_counts(
    networks: tuple[OnnxModel, OnnxModel], small_thorax: Thorax
) -> None:
    lungs, lesions = networks
    case, any_density = case_of(small_thorax), Change(name="x", output={"minimum_lesion_hu": None})
    free = measure_change(case, Change(name=AS_SHIPPED), lungs, lesions).lesion_dice
    output = lesions.manifest.output.model_copy(update={"minimum_lesion_hu": 2000.0})
    lesions.manifest = lesions.manifest.model_copy(update={"output": output})
    assert measure_change(case, Change(name=AS_SHIPPED), lungs, lesions).lesion_dice == 0
    assert measure_change(case, any_density, lungs, lesions).lesion_dice == free > 0


def test_each_change_of_the_scan_does_what_its_name_says() -> None:
    known = {one.name: one for one in changes(contract(window=(-1000.0, 600.0)))}
    hu = np.full((2, 20, 20), -200.0, dtype=np.float32)
    hu[:, 10:] = -2000.0
    bent = known["gamma 0.8"].planes(hu)
    assert bent[0, 0, 0] == pytest.approx(-1000 + 1600 * 0.5**0.8, abs=0.1)
    assert bent[0, 19, 0] == -1000
    blurred = known["blur, sigma 2 pixels"].planes(hu)
    assert -1900 < blurred[0, 9, 5] < -300
    noise = known["noise, SD 80 HU"].planes(hu) - hu
    assert noise.std() == pytest.approx(80, rel=0.1)
    assert known["window 400 HU narrower"].contract["window"] == (-800.0, 400.0)
    assert not any("CLAHE" in name for name in known)
    assert np.array_equal(known[AS_SHIPPED].planes(hu), hu)


def test_a_case_without_lesions_has_no_front_end(
    networks: tuple[OnnxModel, OnnxModel], healthy_thorax: Thorax
) -> None:
    with pytest.raises(ValueError, match="has no lesions"):
        measure_change(case_of(healthy_thorax), Change(name=AS_SHIPPED), *networks)


def test_lung_outside_the_body_is_removed() -> None:
    """A box of tissue with two lungs, and lung marked in the air beside it."""
    hu = np.full((30, 80, 80), -1000, dtype=np.int16)
    hu[:, 5:75, 5:75] = 40
    right, left = np.zeros(hu.shape, dtype=bool), np.zeros(hu.shape, dtype=bool)
    right[:, 20:60, 14:38], left[:, 20:60, 42:66] = True, True
    hu[right | left] = -850
    volume = volume_of(hu, slice_spacing=10.0)
    pixels = replace(volume.geometry, pixel_spacing=(3.2, 3.6))
    volume = replace(volume, geometry=pixels)
    lesions = LesionsKnown(np.zeros(hu.shape, dtype=bool))
    inside = read_series("s", volume, models(LungsKnown(left=left, right=right), lesions))
    assert inside.record.outside_body_ml == 0
    assert inside.record.call == "negative"
    assert len(inside.tiles) == 4
    right[:, 20:60, 0:4] = True  # the analysis drops it
    beside = read_series("s", volume, models(LungsKnown(left=left, right=right), lesions))
    assert beside.record.outside_body_ml == 0


def test_a_refused_series_is_a_line_of_the_report(small_thorax: Thorax) -> None:
    none = np.zeros_like(small_thorax.left_lung)
    lesions = LesionsKnown(small_thorax.lesion > 0)
    refused = read_series(
        "s", small_thorax.volume(), models(LungsKnown(left=none, right=none), lesions)
    )
    assert refused.record.call == "refused"
    assert refused.record.reason is not None
    assert refused.record.score is None
    assert (refused.record.lung_ml, refused.record.outside_body_ml, refused.tiles) == (0, 0, ())


@pytest.mark.real
def test_single_slices_are_read_in_hounsfield_units(shared_root: Path) -> None:
    paths = sorted((shared_root / "data/covid-hu").glob("*.dcm"))
    assert len(paths) == 10
    for path in paths:
        volume = single_volume(path)
        assert volume.hu.shape == (1, 512, 512)
        assert volume.hu.min() == -1024
        assert ((volume.hu > -950) & (volume.hu < -500)).mean() > 0.02
        assert ((volume.hu > 0) & (volume.hu < 100)).mean() > 0.05
