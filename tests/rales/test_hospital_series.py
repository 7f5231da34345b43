"""What hospitals send, through the whole main job: the result is that of the textbook series."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from hospital_series import Habit, habits, with_strangers
from judges import require_valid
from pydicom.dataset import Dataset
from tiny_node import tiny_thorax, write_models

from dicom_out.objects.raw import raw_value
from phantom import write_series
from rales.analysis.pipeline import AnalysisRequest, run
from rales.analysis.settings import AnalysisSettings, settings_of
from rales.cli.scanning import scan
from rales.config.file import parse
from rales.state.results import AnalysisReport

pytestmark = [
    pytest.mark.slow,
    # pydicom warns of what is wrong on purpose.
    pytest.mark.filterwarnings("ignore:(Invalid|The) value:UserWarning"),
]

Analyse = Callable[[list[Dataset], str], AnalysisReport]


@pytest.fixture(scope="module")
def textbook(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AnalysisSettings]:
    folder = tmp_path_factory.mktemp("textbook")
    thorax = tiny_thorax()
    write_series(thorax, folder / "series")
    models = write_models(folder / "models", thorax)
    config = parse({"analysis": {"models_dir": str(models), "providers": ["CPU"], "threads": 1}})
    return folder / "series", settings_of(config)


def read(folder: Path) -> list[Dataset]:
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(slices, key=lambda one: float(one.ImagePositionPatient[2]))


@pytest.fixture(scope="module")
def analyse(
    textbook: tuple[Path, AnalysisSettings], tmp_path_factory: pytest.TempPathFactory
) -> Analyse:
    def analysed(slices: list[Dataset], name: str) -> AnalysisReport:
        folder = tmp_path_factory.mktemp("sent")
        paths = []
        for number, one in enumerate(slices):
            paths.append(folder / f"{number:04d}.dcm")
            one.save_as(paths[-1], enforce_file_format=True)
        found = scan(paths)
        assert not found.skipped
        (series,) = found.series
        request = AnalysisRequest(
            series=series,
            settings=textbook[1],
            folder=folder / "out",
            created=datetime(2026, 1, 2, tzinfo=UTC),
        )
        return run(request)

    return analysed


@pytest.fixture(scope="module")
def expected(textbook: tuple[Path, AnalysisSettings], analyse: Analyse) -> AnalysisReport:
    return analyse(read(textbook[0]), "textbook")


@pytest.mark.parametrize("habit", [*habits(), *with_strangers()], ids=lambda habit: habit.name)
def test_a_habit_of_a_hospital_changes_nothing(
    textbook: tuple[Path, AnalysisSettings],
    analyse: Analyse,
    expected: AnalysisReport,
    habit: Habit,
) -> None:
    sent = habit.change(read(textbook[0]))
    used = {str(one.SOPInstanceUID) for one in sent[: len(sent) - habit.aside]}
    report = analyse(sent, habit.name)
    found, wanted = report.findings, expected.findings
    for side in ("left", "right", "total"):
        before, after = getattr(wanted, side), getattr(found, side)
        assert after.volume_ml == pytest.approx(before.volume_ml, rel=0.01)
        assert after.lesion_ml == pytest.approx(before.lesion_ml, rel=0.01)
    notes = [one for one in found.quality_flags if one not in wanted.quality_flags]
    assert set(wanted.quality_flags) <= set(found.quality_flags)
    invalid = [one for one in notes if one.startswith("the images have invalid header values")]
    assert bool(invalid) == habit.invalid
    assert len(notes) == habit.aside + len(invalid)
    for one in sent[len(sent) - habit.aside :]:
        assert any(str(one.SOPInstanceUID) in note for note in notes)
    seg, sr = (pydicom.dcmread(item.path) for item in report.results.objects)
    (series,) = seg.ReferencedSeriesSequence
    named = {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedInstanceSequence}
    assert named == used
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
        assert raw_value(seg, keyword) == raw_value(sr, keyword)
    for item in report.results.objects:
        require_valid(item.path, habit.verbatim)
