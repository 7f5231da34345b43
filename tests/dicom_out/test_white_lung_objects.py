"""What SEG and SR say of a lung that is not assessable, as they read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from chest_cases import SHAPE, Case, both_lungs, healthy_lungs
from judges import known_to_older_judges, require_one_study, require_valid
from pydicom.dataset import Dataset
from sr_content import groups, items, name_of, values
from white_lungs import case_without

from chestct.errors import ResultInvalid
from chestct.findings import Coverage, Side
from chestct.geometry import Vector
from chestct.results import Profile, ReportOptions
from chestct.volume import Label
from dicom_out.objects import codes
from dicom_out.objects.contours import beside
from dicom_out.objects.sr_reader import NotOurReport, read_report
from dicom_out.objects.text import render_text

pytestmark = pytest.mark.slow

SIDES = tuple(Side)
FLIPPED = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))


def evaluated(group: Dataset, name: str) -> list[str]:
    return [
        child.ConceptCodeSequence[0].CodeMeaning
        for child in group.ContentSequence
        if child.ValueType == "CODE" and name_of(child) == name
    ]


def laterality(group: Dataset) -> str:
    (found,) = [item for item in items(group) if name_of(item) == "Laterality"]
    return str(found.ConceptCodeSequence[0].CodeMeaning)


@pytest.mark.parametrize("cosines", [((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), FLIPPED])
@pytest.mark.parametrize("kind", [Profile.OHIF, Profile.LABELMAP])
@pytest.mark.parametrize("side", SIDES)
def test_objects_of_one_lung_are_valid_and_say_so(
    side: Side, kind: Profile, cosines: object, tmp_path: Path
) -> None:
    case = case_without(side, tmp_path, cosines=cosines)
    result = case.compose(tmp_path / "out", kind, options=ReportOptions(lesion_segments=True))
    for item in result.objects:
        require_valid(known_to_older_judges(item.path))
    sources = [instance.path for instance in case.series.instances]
    require_one_study([*sources, *(item.path for item in result.objects)])
    seg = pydicom.dcmread(result.objects[0].path)
    other = Side.RIGHT if side is Side.LEFT else Side.LEFT
    labels = [str(one.SegmentLabel) for one in seg.SegmentSequence]
    assert {label.split()[0].lower() for label in labels} - {"background"} == {str(other)}
    for said in (seg.SeriesDescription, seg.ContentDescription):
        assert f"{side} not assessable" in said
        assert len(said) <= 64  # Long String, PS3.5 section 6.2


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs])
def test_the_report_has_no_number_of_the_lung_and_none_of_both(
    side: Side, labels: object, tmp_path: Path
) -> None:
    case = case_without(side, tmp_path, labels())  # type: ignore[operator]
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path)
    own, other = f"{side} lung".capitalize(), "Right" if side is Side.LEFT else "Left"
    (missing,) = groups(sr, own)
    assert values(missing) == {}
    assert evaluated(missing, "Opacity presence") == ["Undetermined"]
    assert laterality(missing) == str(side).capitalize()
    (why,) = [one.TextValue for one in items(missing) if name_of(one) == "Comment"]
    assert why == f"{own} not assessable: 12 ml of it hold air, at least 346 ml are needed"
    (summary,) = groups(sr, "Summary")
    numbers = values(summary)
    assert "Percent of lung involved" not in numbers
    assert f"Percent of {side} lung involved" not in numbers
    assert numbers[f"Percent of {other.lower()} lung involved"][0] == pytest.approx(
        case.findings.covered.involved_percent, abs=0.005
    )
    assert laterality(summary) == other
    assert evaluated(summary, "Severity") == []
    ill = bool(case.findings.lesions)
    assert evaluated(summary, "Opacity presence") == ["Present" if ill else "Undetermined"]
    text = render_text(sr)
    assert why in text
    assert "no lesion" not in text.lower()
    assert "percent of the lungs" not in text
    assert f"{side} lung not assessable" in text
    if not ill:
        assert sr.SeriesDescription.startswith(f"Indeterminate: {side} lung not assessable")
        assert f"Indeterminate: {side} lung not assessable" in text
    assert len(sr.SeriesDescription) <= 64


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs])
def test_such_a_report_is_read_back_as_what_it_covers(
    side: Side, labels: object, tmp_path: Path
) -> None:
    case = case_without(side, tmp_path, labels())  # type: ignore[operator]
    report = read_report(pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path))
    covered = case.findings.covered
    assert report.covers is case.findings.covers is not Coverage.BOTH
    assert report.involved_percent == pytest.approx(covered.involved_percent, abs=0.005)
    assert report.lesion_ml == pytest.approx(covered.lesion_ml, abs=0.005)


def test_a_report_of_no_lung_at_all_is_none_of_ours(tmp_path: Path) -> None:
    case = case_without(Side.LEFT, tmp_path)
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path)
    for group in groups(sr, "Right lung"):
        (name,) = [item for item in group.ContentSequence if name_of(item) == "Finding"]
        name.ConceptNameCodeSequence[0].CodeValue = codes.LESION_PRESENCE.value
        name.ConceptCodeSequence[0].CodeValue = codes.UNDETERMINED.value
    with pytest.raises(NotOurReport, match="neither lung"):
        read_report(sr)


def test_voxels_of_a_lung_that_is_not_assessable_are_no_result(tmp_path: Path) -> None:
    case = case_without(Side.LEFT, tmp_path)
    labels = case.lesion_map.labels.copy()
    labels[2, 5:8, 11:14] = Label.LEFT_LUNG
    wrong = replace(case, lesion_map=replace(case.lesion_map, labels=labels))
    with pytest.raises(ResultInvalid, match="has voxels in a lung that is not assessable"):
        wrong.compose(tmp_path / "out")


@pytest.mark.parametrize(
    "rows", [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0)]
)
@pytest.mark.parametrize("side", SIDES)
def test_the_outline_of_the_lung_lies_on_its_own_side_of_the_patient(
    side: Side, rows: Vector, tmp_path: Path
) -> None:
    """Also in images of a patient who lay on one side, whose columns run along the body's width."""
    columns = (0.0, 1.0, 0.0) if rows[0] else (1.0, 0.0, 0.0)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 9:15, 7:11] = Label.RIGHT_LUNG if side is Side.LEFT else Label.LEFT_LUNG
    case = case_without(side, tmp_path, labels, cosines=(rows, columns))
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[-1].path)
    missing, other = (middle(sr, f"{one} lung", case) for one in side_and_other(side))
    leftwards = missing[0] - other[0]
    assert leftwards > 0 if side is Side.LEFT else leftwards < 0
    assert missing[1] == pytest.approx(other[1])


def side_and_other(side: Side) -> tuple[str, str]:
    return ("Left", "Right") if side is Side.LEFT else ("Right", "Left")


def middle(sr: Dataset, name: str, case: Case) -> Vector:
    """Return the middle of the outline of a group in the patient."""
    (outline,) = [item for item in items(groups(sr, name)[0]) if item.ValueType == "SCOORD"]
    points = np.reshape(outline.GraphicData, (-1, 2))
    column, row = (points.min(axis=0) + points.max(axis=0)) / 2 - 0.5
    return case.volume.geometry.position((0.0, float(row), float(column)))


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("columns", [(0, 4), (3, 9), (8, 19), (0, 19)])
def test_the_box_beside_a_lung_lies_on_its_other_side_and_in_the_image(
    step: int, columns: tuple[int, int]
) -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:7, columns[0] : columns[1] + 1] = True
    box = beside(mask, step)  # type: ignore[arg-type] - the literals
    assert box.any()
    assert set(np.flatnonzero(box.any(axis=1))) == {3, 4, 5, 6}
    across = np.flatnonzero(box.any(axis=0))
    if columns[0] > 0 and columns[1] < 19:
        assert across[0] > columns[1] if step == 1 else across[-1] < columns[0]
