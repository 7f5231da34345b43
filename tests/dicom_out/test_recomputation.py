"""Every number of SR and findings.json follows from the written SEG and the CT, and nothing else.

What recomputes them (:mod:`recompute`) uses pydicom and numpy, and no module of Rales.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chest_cases import Case, both_lungs, healthy_lungs, left_lesion, make_case
from numpy.typing import NDArray
from recompute import (
    CONSOLIDATION,
    GROUND_GLASS,
    LONG_AXIS,
    LUNG,
    MEAN_HU,
    OPACITIES,
    ROUNDED,
    SHORT_AXIS,
    VOLUME,
    Chest,
    Ct,
    Segment,
    expected,
    long_axis,
    read_groups,
    read_segments,
    thirds,
)

from chestct.findings import NotAssessable, Side
from chestct.findings_json import findings_to_dict
from chestct.results import Profile, ReportOptions, ResultObject
from chestct.volume import Label
from inference.reading.quantify import measure
from inference.reading.sides import Missing

pytestmark = pytest.mark.slow

SIDEWAYS = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
Segments = dict[tuple[str, int], Segment]


def all_lesion() -> NDArray[np.uint8]:
    labels = healthy_lungs()
    labels[labels == Label.LEFT_LUNG] = Label.LEFT_GROUND_GLASS
    return labels


def many_lesions() -> NDArray[np.uint8]:
    """Return sixteen lesions, no two of the same size."""
    labels = healthy_lungs().repeat(4, axis=0)
    places = [(row, column) for row in (5, 9, 13, 17) for column in (2, 5, 10, 13)]
    for size, (row, column) in enumerate(places, start=1):
        lung = labels[4 : 4 + size, row : row + 2, column]
        lung[lung > 0] += Label.LEFT_GROUND_GLASS - Label.LEFT_LUNG
    return labels


def opaque_left(folder: Path) -> Case:
    """Return a series whose left lung is not assessable."""
    labels = both_lungs()
    labels[labels % 2 == 1] = Label.BACKGROUND
    case = make_case(folder, labels=labels)
    lung = NotAssessable(aerated_ml=12.4, needed_ml=345.6)
    found = measure(
        case.volume,
        case.lesion_map,
        case.findings.presence,
        case.findings.method,
        missing=Missing(side=Side.LEFT, lung=lung, other_ml=1382.4),
    )
    return replace(case, findings=found)


CASES: dict[str, Callable[[Path], Case]] = {
    "both lungs": lambda folder: make_case(folder, labels=both_lungs()),
    "one lesion": lambda folder: make_case(folder, labels=left_lesion()),
    "nothing": lambda folder: make_case(folder, labels=healthy_lungs()),
    "a lung all lesion": lambda folder: make_case(folder, labels=all_lesion()),
    "many lesions": lambda folder: make_case(folder, labels=many_lesions()),
    "turned": lambda folder: make_case(folder, labels=both_lungs(), cosines=SIDEWAYS),
    "an opaque lung": opaque_left,
}
DETAILED = ReportOptions(measured_lesions=7, lesion_segments=True)


@pytest.mark.parametrize("options", [ReportOptions(), DETAILED], ids=["plain", "lesions too"])
@pytest.mark.parametrize("name", CASES)
def test_every_number_follows_from_segments_and_images(
    name: str, options: ReportOptions, tmp_path: Path
) -> None:
    case = CASES[name](tmp_path / "series")
    objects = case.compose(tmp_path / "out", *Profile, options=options).objects
    findings = json.loads(json.dumps(findings_to_dict(case.findings)))
    ct = Ct.read([instance.path for instance in case.series.instances])
    every = segments_of(objects, ct, "seg")
    own, label_map = (read_segments(find(objects, role), ct) for role in ("seg", "seg-labelmap"))
    chest = Chest.of(ct, list(own.values()))
    require_findings(findings, chest)
    for segment, same in zip(own.values(), label_map.values(), strict=True):
        assert np.array_equal(segment.mask, same.mask)
    reports = [item.path for item in objects if item.role.startswith("sr")]
    assert len(reports) >= 4
    for report in reports:
        require_report(report, chest, every, findings)


def find(objects: tuple[ResultObject, ...], role: str) -> Path:
    return next(item.path for item in objects if item.role == role)


def segments_of(objects: tuple[ResultObject, ...], ct: Ct, prefix: str) -> Segments:
    """Return the segments of every SEG."""
    found: Segments = {}
    for item in objects:
        if item.role.startswith(prefix):
            found |= read_segments(item.path, ct)
    return found


def require_report(path: Path, chest: Chest, segments: Segments, findings: dict[str, Any]) -> None:
    groups = read_groups(path)
    assert groups
    for group in groups:
        wanted: dict[str, float] = {}
        tissue = next((s for s in chest.segments if s.tracking_uid == group.tracking_uid), None)
        if group.segment is not None or tissue is not None:
            segment = segments[group.segment] if group.segment else tissue
            assert segment is not None
            assert segment.tracking_uid == group.tracking_uid
            wanted = numbers_of_segment(segment, chest)
            if group.segment is not None:
                assert group.numbers[VOLUME][0] == pytest.approx(wanted[VOLUME], abs=ROUNDED)
        else:
            wanted = expected(group, chest, findings)
        for code, (value, _) in group.numbers.items():
            if code == SHORT_AXIS:
                assert 0 < value <= group.numbers[LONG_AXIS][0]
            else:
                digits = 5.1e-5 if code == "PRESENCE_SCORE" else ROUNDED
                assert value == pytest.approx(wanted[code], abs=digits), (group.tracking, code)
        if group.tracking in {"Summary", "Left lung", "Right lung"}:
            assert group.numbers.keys() == wanted.keys(), group.tracking


def numbers_of_segment(segment: Segment, chest: Chest) -> dict[str, float]:
    """Return the numbers that a group of a segment may state."""
    volume = {VOLUME: int(segment.mask.sum()) * chest.ct.ml}
    if segment.kind == LUNG:
        return volume
    mean = float(chest.ct.hu[segment.mask].mean())
    if segment.kind in OPACITIES:
        return volume | {MEAN_HU: mean}
    return volume | {
        MEAN_HU: mean,
        "PCT_HIGH_OPACITY": chest.share(segment.mask),
        LONG_AXIS: long_axis(segment.mask, chest.ct.spacing),
    }


def require_findings(findings: dict[str, Any], chest: Chest) -> None:
    covered = findings["covers"]
    for side in ("left", "right"):
        if covered not in {side, "both"}:
            assert "volume_ml" not in findings[side]
            assert not chest.mask(side).any()
            continue
        require_lung(findings[side], chest, side)
        require_zones(findings[side], chest, side)
    assert (findings["total"] is not None) == (covered == "both")
    if findings["total"]:
        require_lung(findings["total"], chest, "both")
    for kind, code in (("ground_glass", GROUND_GLASS), ("consolidation", CONSOLIDATION)):
        require_opacity(findings[kind], chest, "both", code)
    assert len(findings["lesions"]) == len(chest.lesions)
    for stated, lesion in zip(findings["lesions"], chest.lesions, strict=True):
        mask = next(
            other.mask
            for other in chest.lesions
            if other.mask.sum() == lesion.mask.sum()
            and np.allclose(chest.ct.centre(other.mask), stated["centroid"], atol=1e-6)
        )
        assert stated["volume_ml"] == pytest.approx(int(mask.sum()) * chest.ct.ml)
        assert stated["mean_hu"] == pytest.approx(chest.ct.hu[mask].mean())
        assert stated["high_opacity_percent"] == pytest.approx(chest.share(mask))
        wanted = long_axis(mask, chest.ct.spacing)
        assert stated["diameter"]["long_axis_mm"] == pytest.approx(wanted)
        assert mask[:, :, :].any(axis=(1, 2))[stated["diameter"]["slice_index"]]


def require_lung(stated: dict[str, Any], chest: Chest, side: str) -> None:
    lesion = chest.mask(side, *OPACITIES)
    assert stated["volume_ml"] == pytest.approx(chest.ml(side))
    assert stated["lesion_ml"] == pytest.approx(chest.ml(side, *OPACITIES))
    assert stated["involved_percent"] == pytest.approx(chest.percent(side))
    if lesion.any():
        assert stated["lesion_mean_hu"] == pytest.approx(chest.ct.hu[lesion].mean())
        assert stated["high_opacity_percent"] == pytest.approx(chest.share(lesion))
    else:
        assert (stated["lesion_mean_hu"], stated["high_opacity_percent"]) == (None, 0)
    for kind, code in (("ground_glass", GROUND_GLASS), ("consolidation", CONSOLIDATION)):
        require_opacity(stated[kind], chest, side, code)


def require_opacity(stated: dict[str, Any], chest: Chest, side: str, code: str) -> None:
    mask = chest.mask(side, code)
    assert stated["volume_ml"] == pytest.approx(int(mask.sum()) * chest.ct.ml)
    mean = chest.ct.hu[mask].mean() if mask.any() else None
    assert stated["mean_hu"] == (None if mean is None else pytest.approx(mean))


def require_zones(stated: dict[str, Any], chest: Chest, side: str) -> None:
    zones = {zone["zone"]: zone for zone in stated["zones"]}
    for third, percent in thirds(chest, side).items():
        assert zones[third]["involved_percent"] == pytest.approx(percent)
    for parts in (("upper", "middle", "lower"), ("peripheral", "central")):
        for number in ("volume_ml", "lesion_ml"):
            assert sum(zones[part][number] for part in parts) == pytest.approx(stated[number])
    for zone in zones.values():
        share = 100 * zone["lesion_ml"] / zone["volume_ml"] if zone["volume_ml"] else 0
        assert zone["involved_percent"] == pytest.approx(share)


def test_the_recomputation_sees_a_wrong_number(tmp_path: Path) -> None:
    case = CASES["both lungs"](tmp_path / "series")
    total = case.findings.total
    assert total is not None
    wrong = replace(total, lesion_ml=total.lesion_ml * 1.05)
    analysed = {"findings": replace(case.findings, total=wrong)}
    objects = case.compose(tmp_path / "out", **analysed).objects
    ct = Ct.read([instance.path for instance in case.series.instances])
    segments = segments_of(objects, ct, "seg")
    chest = Chest.of(ct, list(segments.values()))
    findings = findings_to_dict(case.findings)
    with pytest.raises(AssertionError, match="LESION_VOLUME"):
        require_report(objects[-1].path, chest, segments, findings)
    with pytest.raises(AssertionError):
        require_findings(findings_to_dict(analysed["findings"]), chest)
