"""The real series: the two chests voxel by voxel, the rest refused for the right reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_series import received

from chestct.errors import RejectReason, SeriesRejected
from chestct.series import Series
from chestct.uids import Uid
from inference.loading.loader import LoadingPolicy, load
from inference.loading.rules import EligibilityRules

pytestmark = pytest.mark.real

ANYTHING = EligibilityRules(body_parts=("",), maximum_thickness_mm=20)


def series_in(folder: Path) -> Series:
    instances = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        uids = {
            "series_uid": Uid(dataset.SeriesInstanceUID),
            "study_uid": Uid(dataset.StudyInstanceUID),
        }
        instances.append(received(path, dataset, **uids))
    return Series.of(instances)


@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("cptac-lung-3mm-b70f", (99, 512, 512), 3.0),
        ("lungdx-5mm", (64, 512, 512), 5.0),
    ],
)
def test_a_real_chest_is_what_pydicom_reads(
    shared_root: Path, name: str, shape: tuple[int, int, int], spacing: float
) -> None:
    series = series_in(shared_root / "data/chest-ct" / name)
    volume = load(series, LoadingPolicy())
    assert volume.hu.shape == shape
    assert volume.geometry.slice_spacing == pytest.approx(spacing)
    paths = {instance.sop_instance_uid: instance.path for instance in series.instances}
    for index, source in enumerate(volume.sources):
        dataset = pydicom.dcmread(paths[source.sop_instance_uid])
        place = np.array(volume.geometry.slice_position(index))
        np.testing.assert_allclose(place, dataset.ImagePositionPatient, atol=0.01)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        padded = dataset.pixel_array == dataset.get("PixelPaddingValue", -99999)
        hu = np.where(padded, -1024, np.clip(hu, -1024, 32767))
        np.testing.assert_array_equal(volume.hu[index], hu)
    lung = (volume.hu > -950) & (volume.hu < -700)
    muscle = (volume.hu > 20) & (volume.hu < 90)
    assert lung.mean() > 0.05
    assert muscle.mean() > 0.03


@pytest.mark.parametrize(
    ("folder", "reason", "words"),
    [
        ("series_ge_gantry_tilt_var_spacing", RejectReason.NOT_CHEST, "HEAD"),
        ("series_philips_gantry_tilt_16", RejectReason.NOT_CHEST, "BRAIN"),
    ],
)
def test_heads_are_no_chests(
    shared_root: Path, folder: str, reason: RejectReason, words: str
) -> None:
    with pytest.raises(SeriesRejected, match=words) as caught:
        load(series_in(shared_root / "corpus" / folder), LoadingPolicy())
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("folder", "degrees"),
    [("series_ge_gantry_tilt_var_spacing", "18.5"), ("series_philips_gantry_tilt_16", "16.5")],
)
def test_tilted_gantries_are_seen_even_where_any_body_part_goes(
    shared_root: Path, folder: str, degrees: str
) -> None:
    with pytest.raises(SeriesRejected, match=f"sheared by {degrees} degrees") as caught:
        load(series_in(shared_root / "corpus" / folder), LoadingPolicy(rules=ANYTHING))
    assert caught.value.reason is RejectReason.GANTRY_TILT


def test_single_slices_are_too_few(shared_root: Path) -> None:
    for path in sorted((shared_root / "data/covid-hu").rglob("*.dcm")):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        uids = {
            "series_uid": Uid(dataset.SeriesInstanceUID),
            "study_uid": Uid(dataset.StudyInstanceUID),
        }
        with pytest.raises(SeriesRejected) as caught:
            load(Series.of([received(path, dataset, **uids)]), LoadingPolicy(rules=ANYTHING))
        assert caught.value.reason is RejectReason.TOO_FEW_SLICES


def test_localizers_and_captures_are_no_stacks(shared_root: Path) -> None:
    reasons = set()
    for name in ("localizer", "non_ct"):
        for path in sorted((shared_root / "corpus" / name).iterdir()):
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            uids = {"series_uid": Uid(dataset.SeriesInstanceUID)}
            with pytest.raises(SeriesRejected) as caught:
                load(Series.of([received(path, dataset, **uids)]), LoadingPolicy())
            reasons.add((name, caught.value.reason))
    assert ("localizer", RejectReason.LOCALIZER) in reasons
    assert all(reason is not RejectReason.TOO_FEW_SLICES for _, reason in reasons)
