"""One analysis with every kind of object that destinations ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from tiny_node import TinySeries, tiny_thorax, write_models, write_tiny_series

from chestct.results import Profile, ResultReference
from chestct.uids import derive_uid
from rales.analysis.pipeline import AnalysisRequest, run
from rales.analysis.settings import AnalysisSettings, settings_of
from rales.cli.scanning import scan
from rales.config.file import parse

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySeries, AnalysisSettings]:
    folder = tmp_path_factory.mktemp("tiny")
    thorax = tiny_thorax()
    models = write_models(folder / "models", thorax)
    config = parse({"analysis": {"models_dir": str(models), "providers": ["CPU"], "threads": 1}})
    return write_tiny_series(thorax, folder, "TINY"), settings_of(config)


def earlier(name: str) -> ResultReference:
    return ResultReference(
        study_uid=derive_uid("study"),
        series_uid=derive_uid(name, "series"),
        sop_class_uid=derive_uid("class"),
        sop_instance_uid=derive_uid(name),
    )


def test_a_label_map_comes_beside_the_binary_seg_and_changes_nothing_of_it(
    tiny: tuple[TinySeries, AnalysisSettings], tmp_path: Path
) -> None:
    written, settings = tiny
    (series,) = scan(written.files).series
    request = AnalysisRequest(
        series=series,
        settings=settings,
        folder=tmp_path / "one",
        created=datetime(2026, 1, 2, tzinfo=UTC),
        predecessors={
            Profile.OHIF: earlier("binary"),
            Profile.LABELMAP: earlier("label map"),
        },
    )
    one = run(request).results.objects
    both = replace(settings, profiles=(Profile.OHIF, Profile.LABELMAP))
    report = run(replace(request, settings=both, folder=tmp_path / "both"))
    objects = report.results.objects
    assert [item.role for item in one] == ["seg", "sr"]
    assert [item.role for item in objects] == ["seg", "sr", "seg-labelmap", "sr-labelmap"]
    for alone, beside in zip(one, objects[:2], strict=True):
        assert alone.path.read_bytes() == beside.path.read_bytes()
    assert len({item.sop_instance_uid for item in objects}) == 4
    named = json.loads((tmp_path / "both" / "findings.json").read_text())["objects"]
    assert named == {item.role: item.sop_instance_uid for item in objects}
    for item, name in ((objects[1], "binary"), (objects[3], "label map")):
        (study,) = pydicom.dcmread(item.path).PredecessorDocumentsSequence
        (sop,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert sop.ReferencedSOPInstanceUID == derive_uid(name)


def test_every_second_slice_may_be_half_of_a_series(
    tiny: tuple[TinySeries, AnalysisSettings], tmp_path: Path
) -> None:
    written, settings = tiny
    (series,) = scan(written.files[::2]).series
    request = AnalysisRequest(
        series=series,
        settings=replace(
            settings,
            rules=settings.rules.model_copy(
                update={"minimum_slices": 10, "maximum_thickness_mm": 10.0}
            ),
        ),
        folder=tmp_path / "half",
        created=datetime(2026, 1, 2, tzinfo=UTC),
    )
    report = run(request)
    assert report.may_be_part.endswith("mm apart")
