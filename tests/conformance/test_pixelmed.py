"""Every kind of report against the templates of the standard, by PixelMed's validator."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from chest_cases import healthy_lungs, make_case
from pixelmed import pixelmed_findings
from prior_results import evolution_after, report_reference
from white_lungs import case_without

from chestct.findings import Side
from chestct.results import Profile, ReportOptions
from dicom_out.objects import compose, seg_parts

pytestmark = pytest.mark.slow

_GROUP = '/CONTAINER (126010,DCM,"Imaging Measurements")/CONTAINER (125007,DCM,"Measurement Group")'
BEYOND_THE_TEMPLATES = {
    f'{_GROUP}/TEXT (111001,DCM,"Algorithm Name")',
    f'{_GROUP}/TEXT (111003,DCM,"Algorithm Version")',
    f'{_GROUP}/TEXT (111002,DCM,"Algorithm Parameters")',
    f'{_GROUP}/TEXT (122405,DCM,"Algorithm Manufacturer")',
    f'{_GROUP}/CODE (111000,DCM,"Algorithm Family")',
    f'{_GROUP}/CODE (LESION_PRESENCE,99RALES,"Opacity presence")',
    f'{_GROUP}/TEXT (121106,DCM,"Comment")',
    '/TEXT (121106,DCM,"Comment")',
}
"""Items that our reports add to TID 1500, 1410 and 1411, which are extensible.

The templates have no place for a text about the whole report. They have the algorithm (TID 4019)
beside the groups, where two algorithms could not be told apart by group.
"""
LESION_SEGMENTS = ReportOptions(measured_lesions=2, lesion_segments=True)


def reports(folder: Path) -> list[Path]:
    """Write a report of each profile and outcome, with all that a report may state.

    PixelMed needs some seconds for each, so each report differs from the others in structure.
    """
    ill = make_case(folder / "ill")
    healthy = make_case(folder / "healthy", labels=healthy_lungs())
    doubted = replace(healthy.findings.presence, score=0.7)
    indeterminate = replace(healthy, findings=replace(healthy.findings, presence=doubted))
    one_lung = case_without(Side.LEFT, folder / "white")
    second = ill.compose(
        folder / "second",
        *(Profile.OHIF, Profile.SLICER, Profile.PLAIN),
        options=LESION_SEGMENTS,
        revision=2,
        evolution=evolution_after(ill.findings),
        predecessors={profile: report_reference(profile) for profile in Profile},
    )
    results = {
        "sr sr-slicer sr-plain": second,
        "sr": indeterminate.compose(folder / "indeterminate"),
        "sr-labelmap": one_lung.compose(folder / "one-lung", Profile.OHIF, Profile.LABELMAP),
        "sr-weasis": ill.compose(folder / "split", Profile.OHIF, Profile.WEASIS),
    }
    return [
        item.path
        for roles, result in results.items()
        for item in result.objects
        if item.role in roles.split()
    ]


def test_every_report_follows_its_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (compose, seg_parts):
        monkeypatch.setattr(module, "MOST_FRAMES", 8)  # splits the SEG for Weasis
    paths = reports(tmp_path)
    found = pixelmed_findings(paths, tmp_path / "validate.bsh")
    assert set(found) == set(paths)
    beyond = set()
    for path, findings in found.items():
        for finding in findings:
            item = re.fullmatch(
                r'Warning: [0-9.]+: /CONTAINER \(126000,DCM,"Imaging Measurement Report"\)'
                r"(.+\)): Content Item not in template.*",
                finding,
            )
            assert item, f"{path.parent.name}/{path.name}: {finding}"
            beyond.add(re.sub(r" = .*", "", item[1]))
    assert beyond == BEYOND_THE_TEMPLATES
