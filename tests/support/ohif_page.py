"""OHIF in headless Chromium: what a test does with it, and what it sees.

Pixels come from screenshots of the viewport: ``canvas.toDataURL()`` hands out stale frames where
WebGL is software. Nothing here knows Rales; what is asked of the viewer's own services is where
things are, never whether they are right.
"""

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page
from pydicom.dataset import Dataset

DEADLINE = 90.0
CHROMIUM_ARGS = (
    "--no-sandbox",  # it refuses to run as root with one, and loads nothing but loopback here
    "--disable-background-networking",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)

Picture = NDArray[np.int16]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

_VIEWPORT = ".cornerstone-viewport-element"
_DRAWN = (
    "() => window.services?.cornerstoneViewportService?.getRenderingEngine?.()?.getViewports?.()"
    ".some(v => v.getImageIds?.().length > 1 && v.getActors().length)"
)
_FIND = "m => services.displaySetService.activeDisplaySets.find(d => d.Modality === m)"
_VOLUMES = (
    "([id, count]) => { const s = services.segmentationService.getSegmentation(id);"
    "return s && Object.values(s.segments).filter(x => x.cachedStats?.namedStats?.volume)"
    ".length === count }"
)
_PANEL = (
    "() => services.panelService.activatePanel("
    "'@ohif/extension-cornerstone.panelModule.panelSegmentation', true)"
)
_VIEW = (
    "const v = services.cornerstoneViewportService.getRenderingEngine().getViewports()"
    ".find(v => v.getImageIds?.().length > 1);"
)
# Rendering is asked for and happens later: wait for its event, then for the frame after it.
_RENDERED = (
    "const drawn = new Promise(r => v.element.addEventListener("
    "'CORNERSTONE_IMAGE_RENDERED', r, {once: true}));"
    "%s; v.render(); await drawn;"
    "await new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)));"
)
_TO_SLICE = (
    "async frame => {" + _VIEW + "const i = v.getImageIds().findIndex(id => id.endsWith(frame));"
    "if (i < 0) throw new Error('no such slice');" + _RENDERED % "await v.setImageIdIndex(i)" + "}"
)
_SHOW = (
    "async ([id, shown]) => {" + _VIEW + "const s = services.segmentationService;"
    "const all = Object.values(s.getSegmentation(id).segments).map(x => x.segmentIndex);"
    + _RENDERED % "all.forEach(k => s.setSegmentVisibility(v.id, id, k, shown.includes(k)))"
    + "}"
)
_PROJECT = "points => {" + _VIEW + "return points.map(p => [...v.worldToCanvas(p)]) }"
_CENTRE = (
    "([id, k]) => services.segmentationService.getSegmentation(id)"
    ".segments[k].cachedStats.namedStats.center.value"
)
_OUTLINE = (
    "uid => { const a = cornerstoneTools.annotation.state.getAllAnnotations().find("
    "a => a.metadata.toolName === 'DICOMSRDisplay' && a.data.TrackingUniqueIdentifier === uid);"
    "return a && [a.metadata.referencedImageId, a.data.renderableData.POLYLINE[0]] }"
)


@dataclass(slots=True, kw_only=True)
class Viewer:
    """A page with one study open in OHIF.

    Attributes:
        page: Playwright's page.
        url: The viewer's link to the study.
        errors: What the page reported since the study was opened: exceptions, failed requests.
    """

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Open the study and wait until its CT is drawn."""
        self.page.set_default_timeout(DEADLINE * 1000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "response",
            lambda answer: (
                self.errors.append(f"{answer.status} {answer.url}")
                if answer.status >= 400
                else None
            ),
        )
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.page.wait_for_function(_DRAWN)
        confirm = self.page.get_by_text("Confirm and hide")
        confirm.click()
        confirm.wait_for(state="detached")

    def open_series(self, modality: str) -> str:
        """Double-click the only series of a modality; return OHIF's name of it."""
        self.page.wait_for_function(_FIND, arg=modality)
        name = str(self.page.evaluate(f"m => ({_FIND})(m).displaySetInstanceUID", modality))
        thumbnail = self.page.locator(f"[id='thumbnail-{name}']").first
        thumbnail.scroll_into_view_if_needed()
        thumbnail.dblclick()
        return name

    def open_segmentation(self, count: int) -> str:
        """Open the SEG, wait for ``count`` segments with their volumes; return OHIF's name."""
        name = self.open_series("SEG")
        self.page.wait_for_function(_VOLUMES, arg=[name, count])
        self.page.evaluate(_PANEL)
        return name

    def volume_shown(self, label: str) -> float:
        """Return the mm³ that the panel prints when the pointer rests on a segment's name."""
        row = self.page.get_by_text(label, exact=True).first
        row.hover()
        card = self.page.get_by_text("Voxel Count", exact=True)
        card.wait_for()
        words = self.page.evaluate("() => document.body.innerText").split("\n")
        self.page.mouse.move(700, 5)
        card.wait_for(state="detached")
        assert words.count("Volume") == 1
        number, unit = words[words.index("Volume") + 1].split()
        assert unit == "mm³"
        return float(number)

    def centre(self, segmentation: str, number: int) -> Points:
        """Return the centre that the viewer computed of a segment, LPS mm."""
        return np.array(self.page.evaluate(_CENTRE, [segmentation, number]), np.float64)

    def go_to(self, frame: str) -> None:
        """Show a slice, named as DICOMweb does: ``<SOP Instance UID>/frames/<number>``."""
        self.page.evaluate(_TO_SLICE, f"/instances/{frame}")

    def drawn(self, segmentation: str, numbers: Sequence[int]) -> Mask:
        """Return which pixels of the viewport the given segments change on the present slice."""
        self.page.evaluate(_SHOW, [segmentation, []])
        without = self._settled(lambda _: True)
        self.page.evaluate(_SHOW, [segmentation, list(numbers)])
        with_them = self._settled(lambda picture: bool((picture != without).any()))
        changed: Mask = np.abs(with_them - without).max(axis=-1) > 12
        return changed

    def show_all(self, segmentation: str, numbers: Sequence[int]) -> None:
        """Show the given segments again."""
        self.page.evaluate(_SHOW, [segmentation, list(numbers)])

    def _settled(self, wanted: Callable[[Picture], bool]) -> Picture:
        """Return the first picture that is ``wanted`` and equal to the one after it."""
        end = time.monotonic() + DEADLINE / 3
        before = self.picture()
        while True:
            after = self.picture()
            if after.shape == before.shape and (after == before).all() and wanted(after):
                return after
            before = after
            assert time.monotonic() < end, "the viewport never showed what was asked for"

    def picture(self) -> Picture:
        """Return the viewport as it is on the screen: (row, column, RGB)."""
        content = self.page.locator(_VIEWPORT).first.screenshot()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.int16)

    def project(self, points: Points) -> Points:
        """Return where points (n, 3), LPS mm, lie in the viewport: (n, 2) as (x, y) pixels."""
        return np.array(self.page.evaluate(_PROJECT, points.tolist()), np.float64)

    def text(self) -> str:
        """Return every word on the screen."""
        return str(self.page.evaluate("() => document.body.innerText"))

    def wait_for_text(self, lines: Sequence[str]) -> None:
        """Wait until every line is on the screen.

        Raises:
            AssertionError: They never were all; the message says which were missing.
        """
        look = "lines => lines.every(l => document.body.innerText.includes(l))"
        try:
            self.page.wait_for_function(look, arg=list(lines), timeout=DEADLINE / 3 * 1000)
        except Exception as error:
            shown = self.text()
            missing = [line for line in lines if line not in shown]
            raise AssertionError(f"not on the screen: {missing}\n{shown}") from error

    def outline(self, tracking_uid: str) -> tuple[str, Points]:
        """Return the slice's frame URL and the (n, 3) LPS points of an outline of the SR."""
        found = self.page.evaluate(_OUTLINE, tracking_uid)
        assert found is not None, "the viewer drew no outline for it"
        return found[0], np.array(found[1], np.float64)

    def next_measurement(self) -> None:
        """Go on to the next measurement group of the SR."""
        self.page.mouse.move(700, 400)
        self.page.locator("[data-cy='viewport-action-arrows-right']").first.click()


def project_mask(viewer: Viewer, mask: Mask, corner: Points, spacing: float, size: Mask) -> Mask:
    """Return which pixels of the viewport an axial mask (row, column) covers.

    Args:
        viewer: Where it would be drawn.
        mask: On the slice that is shown; rows towards the back, columns towards the left.
        corner: (x, y, z) of the centre of pixel (0, 0), LPS mm.
        spacing: mm between pixels, both ways.
        size: Any mask of the viewport.
    """
    steps = np.array([[0, 0, 0], [spacing, 0, 0], [0, spacing, 0]], np.float64)
    origin, along, down = viewer.project(corner + steps)
    to_pixel = np.linalg.inv(np.stack([along - origin, down - origin], axis=1))
    rows, columns = np.indices(size.shape)
    places = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5]) - origin[:, None]
    column, row = np.rint(to_pixel @ places).astype(int)
    inside = (row >= 0) & (column >= 0) & (row < mask.shape[0]) & (column < mask.shape[1])
    out = np.zeros(size.size, dtype=bool)
    out[inside] = mask[row[inside], column[inside]]
    return out.reshape(size.shape)


def overlap(one: Mask, other: Mask) -> float:
    """Return the intersection over the union."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def results_in_pacs(link: str) -> dict[str, Dataset]:
    """Return SEG and SR of the study behind a viewer's link, over the viewer's own DICOMweb."""
    site, study = link.split("/viewer?StudyInstanceUIDs=")
    root = f"{site}/dicom-web/studies/{study}"
    with urllib.request.urlopen(f"{root}/series", timeout=DEADLINE) as answer:
        series = {item["00080060"]["Value"][0]: item for item in json.load(answer)}
    return {
        modality: _only_instance(f"{root}/series/{series[modality]['0020000E']['Value'][0]}")
        for modality in ("SEG", "SR")
    }


def _only_instance(series: str) -> Dataset:
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    request = urllib.request.Request(series, headers=accept)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        boundary = answer.headers.get_param("boundary")
        parts = answer.read().split(b"--" + boundary.encode())[1:-1]
    assert len(parts) == 1
    content = parts[0].split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
    return pydicom.dcmread(io.BytesIO(content))


def numbers_of(items: Sequence[Dataset]) -> list[tuple[str, float, str]]:
    """Return name, value and unit of each number among content items."""
    return [
        (
            str(item.ConceptNameCodeSequence[0].CodeMeaning),
            float(item.MeasuredValueSequence[0].NumericValue),
            str(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
        )
        for item in items
        if item.ValueType == "NUM"
    ]
