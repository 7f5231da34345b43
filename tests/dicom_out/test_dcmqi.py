"""dcmqi, which shares no code with highdicom, reads the same values and voxels."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chest_cases import (
    PIXEL_SPACING,
    SLICE_SPACING,
    both_lungs,
    healthy_lungs,
    left_lesion,
    make_case,
)
from numpy.typing import NDArray

from chestct.results import ReportOptions

LUNG_VOLUME = "Volume of lung with its opacities, sum of segments"
TOOLS = Path(sys.executable).parent
LABELS = [both_lungs, left_lesion, healthy_lungs]


def tool(name: str) -> Path:
    path = TOOLS / name
    if not path.exists():
        pytest.skip(f"{name} (dcmqi) is not installed")
    return path


def nrrd(path: Path) -> NDArray[np.uint8]:
    """Return the voxels of an NRRD of bytes or shorts, (slice, row, column)."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(
        line.split(": ", 1)
        for line in head.decode().splitlines()
        if ": " in line and line[0] != "#"
    )
    if fields["encoding"] in {"gzip", "gz"}:
        body = gzip.decompress(body)
    kind = {"short": "<i2", "unsigned short": "<u2", "unsigned char": "u1", "uint8": "u1"}
    sizes = [int(size) for size in fields["sizes"].split()]
    return np.frombuffer(body, kind[fields["type"]]).reshape(sizes[::-1]).astype(np.uint8)


@pytest.mark.parametrize("labels", LABELS)
def test_segments_are_read_back_voxel_by_voxel(
    labels: Callable[[], NDArray[np.uint8]], tmp_path: Path
) -> None:
    reader = tool("segimage2itkimage")
    case = make_case(tmp_path / "series", labels=labels())
    options = ReportOptions(measured_lesions=2, lesion_segments=True)
    counts = {
        "seg": [int((case.lesion_map.labels == label).sum()) for label in range(1, 7)],
        "seg-lesions": [
            round(one.volume_ml * 1000 / (PIXEL_SPACING[0] * PIXEL_SPACING[1] * SLICE_SPACING))
            for one in case.findings.lesions[:2]
        ],
    }
    for item in case.compose(tmp_path / "out", options=options).objects[:-1]:
        folder = tmp_path / item.role
        folder.mkdir()
        done = subprocess.run(
            [
                reader,
                "--inputDICOM",
                item.path,
                "--outputDirectory",
                folder,
                "--outputType",
                "nrrd",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = [
            int((nrrd(path) > 0).sum())
            for path in sorted(folder.glob("*.nrrd"), key=lambda path: int(path.stem))
        ]
        assert found == [count for count in counts[item.role] if count]


@pytest.mark.parametrize("labels", LABELS)
def test_measurements_are_read_back(
    labels: Callable[[], NDArray[np.uint8]], tmp_path: Path
) -> None:
    reader = tool("tid1500reader")
    case = make_case(tmp_path / "series", labels=labels())
    item = case.compose(tmp_path / "out").objects[-1]
    out = tmp_path / "sr.json"
    done = subprocess.run(
        [reader, "--inputDICOM", item.path, "--outputMetadata", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads(out.read_text())
    found: dict[str, dict[str, float]] = {}
    for group in read["Measurements"]:
        own = found.setdefault(group["TrackingIdentifier"], {})
        for one in group.get("measurementItems", ()):
            own[one["quantity"]["CodeMeaning"]] = float(one["value"])
    findings = case.findings
    for name, lung in (("Left lung", findings.left), ("Right lung", findings.right)):
        assert found[name][LUNG_VOLUME] == pytest.approx(lung.volume_ml, abs=0.0051)
        assert found[name]["Percent of lung involved"] == pytest.approx(
            lung.involved_percent, abs=0.0051
        )
    assert found["Summary"]["Number of lesions"] == len(findings.lesions)
    for lesion in findings.lesions:
        own = found[f"Lesion {lesion.number}"]
        assert own["Volume"] == pytest.approx(lesion.volume_ml, abs=0.0051)
        assert own["Long Axis"] == pytest.approx(lesion.diameter.long_axis_mm, abs=0.0051)
