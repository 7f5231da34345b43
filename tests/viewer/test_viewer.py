"""What the radiologist sees: Rales' results in OHIF, against the phantom's own truth.

Masks, places and volumes are held against the phantom, which no line of the SEG has part in, and
against the file, so that a mask that the analysis, the writer or the viewer shifted, flipped or
swapped is found whoever did it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from ohif_page import (
    Mask,
    Points,
    Viewer,
    numbers_of,
    overlap,
    project_mask,
    results_in_pacs,
)
from playwright.sync_api import BrowserContext
from pydicom.dataset import Dataset

from dicom_out.objects import codes
from phantom import Thorax

# Idle it takes a minute; WebGL in software on a busy machine takes long.
pytestmark = [pytest.mark.viewer, pytest.mark.timeout(900)]

LUNG, LEFT, RIGHT = "39607008", "7771000", "24028007"  # SNOMED CT
FINDING, IMAGING_MEASUREMENTS = "121071", "126010"  # DCM
SHORTHAND = {"Long Axis": "L: ", "Short Axis": "W: "}
"""What OHIF 3.13 prints for some names."""
SHOWN_AT_ONCE = 5
ZONES = {code.meaning for code in codes.INVOLVED_ZONES.values()}
"""How many numbers of a group it prints; what comes later has to stand in another group too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study that is open in the viewer, and what is true of it."""

    viewer: Viewer
    truth: Thorax
    slices: list[str]
    """``<SOP Instance UID>/frames/<number>``, feet first, as the phantom counts its slices."""
    seg: Dataset
    sr: Dataset

    def corner(self, index: int) -> Points:
        """Return the centre of the first pixel of a slice, LPS mm."""
        x, y, z = self.truth.origin
        return np.array([x, y, z + index * self.truth.spacing[0]])

    def wanted(self) -> dict[str, Mask]:
        """Return the phantom's truth per kind of segment; lung is what is no lesion."""
        lesion = self.truth.lesion > 0
        masks = {"left lung": self.truth.left_lung & ~lesion}
        masks["right lung"] = self.truth.right_lung & ~lesion
        return masks | ({"lesion": lesion} if lesion.any() else {})

    def segments(self) -> dict[str, list[int]]:
        """Return the numbers of the SEG's segments by kind."""
        found: dict[str, list[int]] = {}
        for segment in self.seg.SegmentSequence:
            found.setdefault(_kind(segment), []).append(int(segment.SegmentNumber))
        return found

    def in_file(self, numbers: list[int], index: int) -> Mask:
        """Return the union of segments on a slice as the SEG's frames and positions say it."""
        out = np.zeros(self.truth.lesion.shape[1:], dtype=bool)
        frames = self.seg.PerFrameFunctionalGroupsSequence
        for plane, frame in zip(self.seg.pixel_array, frames, strict=True):
            number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            z = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
            if number in numbers and abs(z - self.corner(index)[2]) < 0.01:
                out |= plane > 0
        return out


def _kind(segment: Dataset) -> str:
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    for modifier in code.get("SegmentedPropertyTypeModifierCodeSequence", []):
        if modifier.CodeValue in {LEFT, RIGHT}:
            return "left lung" if modifier.CodeValue == LEFT else "right lung"
    return "lesion"


@pytest.fixture(scope="module")
def phantoms(
    small_series: Path,
    healthy_series: Path,
    multi_frame_series: Path,
    small_thorax: Thorax,
    healthy_thorax: Thorax,
) -> dict[str, tuple[int, Path, Thorax]]:
    """Return the place among the viewer's links, the series and the truth of each phantom."""
    return {
        "lesions": (0, small_series, small_thorax),
        "healthy": (1, healthy_series, healthy_thorax),
        "multi-frame": (2, multi_frame_series, small_thorax),
    }


@pytest.fixture(scope="module", params=["lesions", "healthy", "multi-frame"])
def study(
    request: pytest.FixtureRequest,
    make_viewer: Any,
    browser: BrowserContext,
    phantoms: dict[str, tuple[int, Path, Thorax]],
) -> Iterator[Study]:
    """Open the study with lesions, the one without, and the one of a multi-frame image."""
    number, folder, truth = phantoms[request.param]
    viewer = Viewer(page=browser.new_page(), url=make_viewer.links[number])
    viewer.open()
    objects = results_in_pacs(viewer.url)
    yield Study(
        viewer=viewer,
        truth=truth,
        slices=[
            frame for _, frame in sorted(one for path in folder.iterdir() for one in _frames(path))
        ],
        seg=objects["SEG"],
        sr=objects["SR"],
    )
    viewer.page.close()


def _frames(path: Path) -> list[tuple[float, str]]:
    """Return the height and the name of each frame of an image."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    places = [header]
    if "PerFrameFunctionalGroupsSequence" in header:
        frames = header.PerFrameFunctionalGroupsSequence
        places = [groups.PlanePositionSequence[0] for groups in frames]
    return [
        (float(place.ImagePositionPatient[2]), f"{header.SOPInstanceUID}/frames/{number}")
        for number, place in enumerate(places, start=1)
    ]


@pytest.fixture(scope="module")
def segmentation(study: Study) -> str:
    """Open the SEG; OHIF's name of it."""
    return study.viewer.open_segmentation(len(study.seg.SegmentSequence))


def test_volumes_and_places_are_those_of_the_file_and_of_the_phantom(
    study: Study, segmentation: str
) -> None:
    voxel = float(np.prod(study.truth.spacing))
    frames = study.seg.PerFrameFunctionalGroupsSequence
    for segment in study.seg.SegmentSequence:
        number = int(segment.SegmentNumber)
        voxels = sum(
            int((plane > 0).sum())
            for plane, frame in zip(study.seg.pixel_array, frames, strict=True)
            if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        )
        shown = study.viewer.volume_shown(str(segment.SegmentLabel))
        assert shown == pytest.approx(voxels * voxel, rel=0.005)
    assert set(study.segments()) == set(study.wanted())
    for kind in ("left lung", "right lung"):
        truth = study.wanted()[kind]
        (number,) = study.segments()[kind]
        place = np.argwhere(truth).mean(axis=0) * study.truth.spacing
        centre = study.viewer.centre(segmentation, number)
        assert np.linalg.norm(centre - (study.corner(0) + place[::-1])) < 5
        assert study.truth.volume_ml(truth) * 1000 == pytest.approx(
            study.viewer.volume_shown(f"{kind.capitalize()} excluding opacities"), rel=0.1
        )


def test_what_is_drawn_is_the_mask_of_the_file_at_the_place_of_the_truth(
    study: Study, segmentation: str
) -> None:
    viewer = study.viewer
    for kind, truth in study.wanted().items():
        numbers = study.segments()[kind]
        index = int(truth.sum(axis=(1, 2)).argmax())
        viewer.go_to(study.slices[index])
        drawn = viewer.drawn(segmentation, numbers)
        place = (study.corner(index), study.truth.spacing[1], drawn)
        in_file = project_mask(viewer, study.in_file(numbers, index), *place)
        in_truth = project_mask(viewer, truth[index], *place)
        assert overlap(drawn, in_file) > 0.9
        assert overlap(drawn, in_truth) > 0.75
    viewer.show_all(segmentation, [int(s.SegmentNumber) for s in study.seg.SegmentSequence])


def _groups(sr: Dataset) -> dict[str, list[Dataset]]:
    """Return the measurement groups by tracking UID, in the report's order."""
    (measurements,) = [
        item
        for item in sr.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == IMAGING_MEASUREMENTS
    ]
    groups: dict[str, list[Dataset]] = {}
    for group in measurements.ContentSequence:
        uid = next(str(item.UID) for item in group.ContentSequence if item.ValueType == "UIDREF")
        groups.setdefault(uid, []).append(group)
    return groups


def _as_shown(name: str, value: float, unit: str) -> str:
    """Return a number as OHIF 3.13 prints it; of a zero it prints the unit alone."""
    name = SHORTHAND.get(name, name)
    return f"{name}: {value:.2f} {unit}" if value else f"{name}: {unit}"


def test_the_report_shows_every_value_beside_its_outline(study: Study) -> None:
    viewer = study.viewer
    viewer.open_series("SR")
    groups = _groups(study.sr)
    seen = ""
    for position, (uid, parts) in enumerate(groups.items()):
        if position:
            viewer.next_measurement()
        numbers = [number for part in parts for number in numbers_of(part.ContentSequence)]
        assert numbers
        viewer.wait_for_text([_as_shown(*number) for number in numbers[:SHOWN_AT_ONCE]])
        seen += viewer.text()
        _check_outline(study, uid, parts)
    for parts in groups.values():
        for part in parts:
            for name, value, unit in numbers_of(part.ContentSequence):
                # OHIF prints the first numbers of a group; the zones of a lung follow them.
                assert name in ZONES or _as_shown("", value, unit) in seen
    assert not viewer.errors


def _check_outline(study: Study, uid: str, parts: list[Dataset]) -> None:
    """Compare an outline with the file's, with the phantom, and with the pixels drawn."""
    viewer = study.viewer
    items = [item for part in parts for item in part.ContentSequence]
    region = next(item for item in items if item.ValueType == "SCOORD")
    source = region.ContentSequence[0].ReferencedSOPSequence[0]
    image = f"{source.ReferencedSOPInstanceUID}/frames/{source.get('ReferencedFrameNumber', 1)}"
    index = study.slices.index(image)
    frame, shown = viewer.outline(uid)
    assert frame.endswith(f"/instances/{image}")
    # PS3.3 C.10.5.1.2: the centre of the first pixel is (0.5, 0.5).
    points = np.array(region.GraphicData, np.float64).reshape(-1, 2)
    spacing = study.truth.spacing[1]
    offsets = np.column_stack([(points - 0.5) * spacing, np.zeros(len(points))])
    world = study.corner(index) + offsets
    assert np.abs(shown - world).max() < spacing
    inside = np.zeros(study.truth.lesion.shape[1:], np.uint8)
    cv2.fillPoly(inside, [np.floor(points).astype(np.int32)], 1)
    truth = _truth_of(study, items, index, inside > 0)
    assert truth is None or overlap(inside > 0, truth) > 0.7
    drawn = _coloured(viewer)
    near = cv2.dilate(drawn.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    columns, rows = viewer.project(world).astype(int).T
    assert near[rows, columns].mean() > 0.9


def _truth_of(study: Study, items: list[Dataset], index: int, inside: Mask) -> Mask | None:
    """Return what an outline should surround on its slice, holes and all: it is one line.

    Of opacities the phantom knows the largest; what else the networks take for one has no truth.
    """
    lesions = study.truth.lesion[index]
    sides = {LEFT: study.truth.left_lung[index], RIGHT: study.truth.right_lung[index]}
    finding = next(i for i in items if i.ConceptNameCodeSequence[0].CodeValue == FINDING)
    if finding.ConceptCodeSequence[0].CodeValue != LUNG:
        number = np.bincount(lesions[inside], minlength=1).argmax()
        return lesions == number if _long_axis(items) == _longest_axis(study.sr) else None
    named = {
        str(modifier.ConceptCodeSequence[0].CodeValue)
        for item in items
        for modifier in item.get("ContentSequence", [])
        if modifier.ValueType == "CODE"
    }
    is_segment = any(item.ValueType == "IMAGE" for item in items)
    lungs = [
        mask & (lesions == 0) if is_segment else mask
        for code, mask in sides.items()
        if code in named or not named & sides.keys()
    ]
    lung = max(lungs, key=lambda mask: int((mask & inside).sum()))  # of both, the larger outline
    return _filled(*cv2.findContours(lung.astype(np.uint8), cv2.RETR_EXTERNAL, 1)[0], like=lung)


def _long_axis(items: Sequence[Dataset]) -> float:
    """Return the long axis among the numbers of a group, or 0."""
    return max((value for name, value, _ in numbers_of(items) if name == "Long Axis"), default=0.0)


def _longest_axis(sr: Dataset) -> float:
    parts = [part for group in _groups(sr).values() for part in group]
    return max(_long_axis(part.ContentSequence) for part in parts)


def _filled(*contours: Any, like: Mask) -> Mask:
    return cv2.drawContours(np.zeros(like.shape, np.uint8), contours, -1, 1, cv2.FILLED) > 0


def _coloured(viewer: Viewer) -> Mask:
    """Return where something is drawn over the CT, which is grey."""
    picture = viewer.picture()
    mask: Mask = picture.max(axis=-1) - picture.min(axis=-1) > 60
    return mask


def test_ctrl_c_ends_everything(make_viewer: Any) -> None:
    """The last test of the file: it ends what the others look at."""
    port = int(make_viewer.links[0].split(":")[2].split("/")[0])
    assert make_viewer.stop() == 0
    assert make_viewer.process.stdout.read().split() == ["stopped"]
    assert list(make_viewer.scratch.iterdir()) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
