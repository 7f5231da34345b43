"""``python -m training read``: a line and a sheet per series, and no series that stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra rales[train] is not installed")

from click.testing import CliRunner, Result
from hu_models import LesionsKnown, LungsByHu, models
from linear_models import volume_of
from PIL import Image

from chestct.errors import RejectReason, SeriesRejected
from chestct.findings import NotAssessable
from chestct.volume import Label, LesionMap
from phantom import Thorax
from training.__main__ import main
from training.readings import command
from training.readings.reading import Call, Reading, read_volume
from training.readings.sheet import COLOURS, HEADER, TILE, write_sheet

pytestmark = pytest.mark.train

KEYS = {
    "folder",
    "series_uid",
    "call",
    "slices",
    "score",
    "operating_point",
    "lesion_ml",
    "involved_percent",
    "left",
    "right",
    "lesions",
    "extent",
    "notes",
    "refusal",
    "seconds",
    "peak_mb",
    "sheet",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, small_thorax: Thorax) -> Callable[..., Result]:
    """Return a function that runs the command with models that know the small phantom."""
    known = models(LungsByHu(), LesionsKnown(lesion=small_thorax.lesion > 0))
    monkeypatch.setattr(command, "load_models", lambda *_, **__: known)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["read", *map(str, arguments)])

    return run


@pytest.fixture(scope="session")
def reading_of_phantom(small_thorax: Thorax) -> Reading:
    known = models(LungsByHu(), LesionsKnown(lesion=small_thorax.lesion > 0))
    return read_volume(small_thorax.volume(), known, lambda _stage, _part: None)


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_series_is_a_line_and_a_refused_series_too(
    run: Callable[..., Result],
    small_series: Path,
    healthy_series: Path,
    small_thorax: Thorax,
    tmp_path: Path,
) -> None:
    shutil.copytree(small_series, tmp_path / "in/a")
    shutil.copytree(healthy_series, tmp_path / "in/b")
    (tmp_path / "in/b/0030.dcm").unlink()
    result = run(tmp_path / "in", "--out", tmp_path / "sheets", "--every", "20")
    assert result.exit_code == 0, result.output
    ill, refused = lines_of(result)
    assert set(ill) == set(refused) == KEYS
    assert ill["folder"] == str(tmp_path / "in/a")
    assert ill["series_uid"] in next(iter((tmp_path / "sheets").iterdir())).name
    assert ill["call"] == "positive"
    assert ill["score"] >= ill["operating_point"]
    assert ill["lesions"] == 2
    assert ill["slices"] == 60
    true_ml = small_thorax.volume_ml(small_thorax.lesion > 0)
    assert ill["lesion_ml"] == pytest.approx(true_ml, rel=0.15)
    assert ill["left"]["volume_ml"] > 500
    assert set(ill["seconds"]) == {"load", "lungs", "presence", "lesions", "measure"}
    assert ill["peak_mb"] > 10
    assert ill["refusal"] is None
    assert ill["sheet"] == f"a-{ill['series_uid']}.png"
    with Image.open(tmp_path / "sheets" / ill["sheet"]) as sheet:
        assert sheet.size == (3 * TILE, TILE + HEADER)
    assert refused["call"] == "refused"
    assert refused["refusal"]["code"] == "missing-slices"
    assert "slice" in refused["refusal"]["message"]
    assert refused["score"] is refused["lesion_ml"] is refused["left"] is refused["sheet"] is None


def test_files_that_cannot_be_used_are_named_and_the_rest_is_read(
    run: Callable[..., Result], small_series: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_series, tmp_path / "in")
    (tmp_path / "in/notes.txt").write_text("no image")
    result = run(tmp_path / "in")
    assert result.exit_code == 1
    (line,) = lines_of(result)
    assert line["call"] == "positive"
    assert f"skipped {tmp_path / 'in/notes.txt'}: is not DICOM" in result.stderr


def test_a_failure_is_a_line_and_an_exit_status(
    run: Callable[..., Result], healthy_series: Path, small_series: Path, tmp_path: Path
) -> None:
    shutil.copytree(healthy_series, tmp_path / "in/a", ignore=lambda *_: ["0001.dcm"])
    shutil.copytree(small_series, tmp_path / "in/b")
    result = run(tmp_path / "in")  # the model of lesions asserts that it knows the shape
    assert result.exit_code == 1
    failed, good = lines_of(result)
    assert (failed["call"], good["call"]) == ("failed", "positive")
    assert failed["refusal"]["code"] == "AssertionError"


def test_a_refusal_by_the_analysis_keeps_the_volume(
    monkeypatch: pytest.MonkeyPatch, small_thorax: Thorax
) -> None:
    def refuse(*_: object) -> None:
        raise SeriesRejected(RejectReason.NO_LUNGS, "no lung was found")

    monkeypatch.setattr("training.readings.reading.analyse", refuse)
    known = models(LungsByHu(), LesionsKnown(lesion=small_thorax.lesion > 0))
    reading = read_volume(small_thorax.volume(), known, lambda _stage, _part: None)
    assert reading.call is Call.REFUSED
    assert reading.volume is not None
    assert reading.to_dict()["refusal"] == {
        "code": "no-lungs-found",
        "message": "no lung was found",
    }


def test_one_clear_lung_beside_a_lung_without_numbers_is_not_a_negative(
    reading_of_phantom: Reading,
) -> None:
    analysis = reading_of_phantom.analysis
    assert analysis is not None
    missing = NotAssessable(aerated_ml=12.0, needed_ml=300.0)
    clear = replace(analysis.findings.presence, score=0.1)
    findings = replace(
        analysis.findings, left=missing, total=None, extent=None, lesions=(), presence=clear
    )
    reading = replace(reading_of_phantom, analysis=replace(analysis, findings=findings))
    assert reading.call is Call.NOT_ASSESSABLE
    assert reading.to_dict()["left"]["not_assessable"] == missing.reason
    positive = replace(findings, presence=analysis.findings.presence)
    assert replace(reading, analysis=replace(analysis, findings=positive)).call is Call.POSITIVE


def test_a_sheet_shows_slices_from_the_feet_with_both_lungs_in_their_place(
    tmp_path: Path,
) -> None:
    hu = np.full((11, 40, 40), 40, dtype=np.int16)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[:, 5:35, 2:16] = Label.RIGHT_LUNG
    labels[:, 5:35, 24:38] = Label.LEFT_LUNG
    labels[6:, 10:20, 28:34] = Label.LEFT_GROUND_GLASS
    for turned in (False, True):
        volume = volume_of(hu, row_cosines=(-1, 0, 0) if turned else (1, 0, 0))
        # Columns to the patient's right turn the normal to the feet.
        flip = (slice(None, None, -1), slice(None), slice(None, None, -1)) if turned else ()
        lesion_map = LesionMap(labels=labels[flip].copy(), geometry=volume.geometry)
        write_sheet(tmp_path / f"{turned}.png", volume, lesion_map, "title", every=5)
    upright, turned_back = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in (False, True)
    )
    assert np.array_equal(upright, turned_back)
    assert upright.shape == (TILE + HEADER, 3 * TILE, 3)
    tiles = [upright[HEADER:, place * TILE : (place + 1) * TILE] for place in range(3)]
    for name, half in (("right lung", 0), ("left lung", 1)):
        for tile in tiles:
            columns = np.flatnonzero((tile == COLOURS[name]).all(axis=-1).any(axis=0))
            assert columns.size
            assert ((columns >= TILE // 2) == half).all()
    marked = [(tile == COLOURS["lesion"]).all(axis=-1).any() for tile in tiles]
    assert marked == [False, False, True]
