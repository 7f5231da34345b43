"""The report as a whole: its figures, its text, and its command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra rales[train] is not installed")

from click.testing import CliRunner
from dark_lungs import SIZE, write_dark_lungs
from labelled_chest import labelled_chest
from linear_models import ModelFolder
from PIL import Image

from inference.networks.session import OnnxModel
from phantom import small_spec
from training.data import RIGHT, SliceSet
from training.metrics import LesionCount, Overlap
from training.report import report
from training.report.changes import AS_SHIPPED, changes
from training.report.document import document
from training.report.gallery import LARGEST_BYTES
from training.report.measure import ReportScope, measure
from training.report.records import (
    CaseRecord,
    Evaluation,
    FrontEndRecord,
    ModelRecord,
    RunRecord,
    Source,
)
from training.report.summary import summarise
from training.report.write import write_report
from training.robustness.records import (
    ChestRecord,
    RobustnessRecord,
    RowRecord,
    Verdict,
    write_record,
)

pytestmark = pytest.mark.train

PROVENANCE = RunRecord(
    date="2026-01-02 03:04 UTC",
    command="python -m training report",
    versions={"Python": "3"},
    cores=2,
    models=(ModelRecord(task="lungs", name="l", version="1", sha256="ab", megabytes=1.0),),
    slices_part="validation",
    slices_sha256="cd",
    seconds={"slices": 1.0},
)


@pytest.fixture
def networks(folder_of_models: ModelFolder) -> tuple[OnnxModel, OnnxModel]:
    return write_dark_lungs(folder_of_models)


def easy_slices() -> SliceSet:
    """Volumes 2 and 6 of the validation part, as the small networks like them."""
    images = np.full((6, SIZE, SIZE), 130, dtype=np.uint8)
    lungs = np.zeros(images.shape, dtype=np.uint8)
    lungs[:, 10:50, 8:28], lungs[:, 10:50, 36:56] = RIGHT, RIGHT
    lesions = np.zeros(images.shape, dtype=bool)
    lesions[:, 20:40, 10:25] = True
    images[lungs > 0], images[lesions] = 20, 60
    return SliceSet(
        images=images,
        lungs=lungs,
        lesions=lesions,
        volumes=np.repeat([2, 6], 3),
        names=tuple(str(number) for number in range(7)),
    )


def write_slices(path: Path) -> None:
    data = easy_slices()
    np.savez(
        path,
        ct=data.images,
        lung=np.packbits(data.lungs > 0, axis=-1),
        lesion=np.packbits(data.lesions, axis=-1),
        volume=data.volumes.astype(np.uint8),
    )


def write_chest(path: Path) -> None:
    chest = labelled_chest()
    np.savez(
        path,
        hu=chest.hu,
        body=chest.body,
        lungs=chest.lungs,
        lesion=np.zeros_like(chest.lesion),
        spacing=np.array(chest.spacing),
    )


def record(name: str, *, score: float, has_lesions: bool = True, found: float = 1.0) -> CaseRecord:
    true = 4.0 if has_lesions else 0.0
    return CaseRecord(
        name=name,
        source=Source.PHANTOM,
        has_lesions=has_lesions,
        positive=score >= 0.5,
        score=score,
        operating_point=0.5,
        lung_dice=0.9,
        lesion=Overlap(dice=found, sensitivity=found, precision=found),
        distances=None,
        lesions=LesionCount(true=2, hit=1, marked=3, false=2),
        lesion_ml=100.0 * found,
        true_lesion_ml=100.0,
        involved_percent=true * found,
        true_involved_percent=true,
        seconds=1.0,
        refused=None,
    )


def evaluation_of(*cases: CaseRecord) -> Evaluation:
    return Evaluation(
        provenance=PROVENANCE,
        patients=(),
        slices=(),
        mirror=(),
        labelled=(),
        painted=(),
        cases=cases,
        front_end=(),
        series=(),
        singles=(),
    )


def test_the_networks_are_measured_end_to_end(
    networks: tuple[OnnxModel, OnnxModel], small_series: Path, tmp_path: Path
) -> None:
    single = min(small_series.glob("*.dcm"))
    coarse = {"shape": (24, 96, 96), "slice_spacing_mm": 12.5, "pixel_spacing_mm": 3.9}
    plan = ReportScope(
        slices=easy_slices(),
        chests=(),
        painted=0,
        phantoms=(small_spec(**coarse), small_spec(lesions=(), seed=2, **coarse)),
        plain=(),
        series=(small_series,),
        seeds={Source.HELD_OUT: range(1), Source.SEEN: range(1)},
        singles=(single,),
    )
    told: list[str] = []
    measured = measure(plan, *networks, told.append)
    sick, clean = (one.record for one in measured.cases)
    assert sick.has_lesions
    assert not clean.has_lesions
    assert sick.lesions.hit > 0
    assert sick.lung_dice > 0.3
    assert [one.lesion.dice for one in measured.patients] == [1.0, 1.0]
    tried = changes(networks[1].manifest.input)
    assert {one.change for one in measured.front_end} == {one.name for one in tried}
    assert measured.series[0].record.slices == 60
    assert measured.singles[0].record.lung_cm2 >= 0
    assert any("phantom" in line for line in told)

    path = write_report(tmp_path / "out", measured, PROVENANCE)
    text = path.read_text()
    figures = sorted(path.parent.glob("figures/*.png"))
    assert {one.stem for one in figures} >= {"involvement-patients", "reliability", "series-1"}
    for figure in figures:
        assert f"(figures/{figure.name})" in text
        assert figure.stat().st_size < LARGEST_BYTES
        with Image.open(figure) as picture:
            assert max(picture.size) > 200
    numbers = json.loads((path.parent / "report.json").read_text())
    assert numbers["summary"]["patients"]["lesion_dice"]["mean"] == 1.0
    assert len(numbers["cases"]) == 2
    assert numbers["summary"]["mirror"]["lesion_difference"]["mean"] == 0
    assert "| 2 | 3 | 1.000 |" in text
    assert "None" not in text
    assert "nan" not in text


def test_the_command_writes_the_report(
    networks: tuple[OnnxModel, OnnxModel], folder_of_models: ModelFolder, tmp_path: Path
) -> None:
    write_slices(tmp_path / "slices.npz")
    words = ["--slices", str(tmp_path / "slices.npz"), "--models", str(folder_of_models.path)]
    words += ["--phantoms", "0", "--threads", "1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(report, words)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert networks[0].manifest.sha256 in text
    assert str(tmp_path) not in text
    assert "6 slices of 2 patients" in text
    refused = CliRunner().invoke(report, [*words, "--split", "train"])
    assert refused.exit_code == 1
    assert "no slice of the train part" in refused.output


def test_the_command_reads_and_paints_a_labelled_chest(
    networks: tuple[OnnxModel, OnnxModel], folder_of_models: ModelFolder, tmp_path: Path
) -> None:
    write_slices(tmp_path / "slices.npz")
    write_chest(tmp_path / "normal-2mm.npz")
    words = ["--slices", str(tmp_path / "slices.npz"), "--models", str(folder_of_models.path)]
    words += ["--chest", str(tmp_path / "normal-2mm.npz"), "--seeds", "1", "--phantoms", "0"]
    words += ["--threads", "1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(report, words)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Labelled chests" in text
    assert "## Kinds of disease" in text
    assert "(figures/painted-curves.png)" in text
    assert "None" not in text
    assert "nan" not in text
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [chest["name"] for chest in numbers["labelled"]] == ["normal-2mm"]
    kinds = {scan["kind"] for scan in numbers["painted"]}
    assert {"untouched", "usual", "lung"} <= kinds
    assert {scan["chest"] for scan in numbers["painted"]} == {"normal-2mm"}
    assert numbers["summary"]["painted"]["rule_ml"] > 0


def test_the_command_refuses_a_chest_that_the_split_does_not_name(
    networks: tuple[OnnxModel, OnnxModel], folder_of_models: ModelFolder, tmp_path: Path
) -> None:
    write_slices(tmp_path / "slices.npz")
    write_chest(tmp_path / "mine.npz")
    words = ["--slices", str(tmp_path / "slices.npz"), "--models", str(folder_of_models.path)]
    words += ["--chest", str(tmp_path / "mine.npz"), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(report, words)
    assert refused.exit_code == 1
    assert "chest-hu.json does not name mine; rename the file or add the series" in refused.output


def test_the_command_takes_a_robustness_table_of_the_same_models(
    networks: tuple[OnnxModel, OnnxModel], folder_of_models: ModelFolder, tmp_path: Path
) -> None:
    write_slices(tmp_path / "slices.npz")
    words = ["--slices", str(tmp_path / "slices.npz"), "--models", str(folder_of_models.path)]
    words += ["--phantoms", "0", "--threads", "1", "--out", str(tmp_path / "out")]
    words += ["--robustness", str(tmp_path / "table.json")]
    digests = tuple(model.identity.digest for model in networks)
    row = RowRecord(perturbation="hu+30", verdict=Verdict.REFUSED, reason="no-lungs-found: none")
    chest = ChestRecord(name="ward", series_uid="1.2", reference=None, refusal="", rows=(row,))
    write_record(tmp_path / "table.json", RobustnessRecord(models=digests, chests=(chest,)))
    done = CliRunner().invoke(report, words)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Robustness" in text
    assert "| hu+30 | refused | 0 of 1 |" in text
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert numbers["robustness"]["chests"][0]["name"] == "ward"
    write_record(tmp_path / "table.json", RobustnessRecord(models=("other",), chests=()))
    refused = CliRunner().invoke(report, words)
    assert refused.exit_code == 1
    assert "table.json is a robustness table of other models" in refused.output


def test_the_summary_counts_scans_and_keeps_sources_apart() -> None:
    cases = [
        record("a", score=0.9, found=0.8),
        record("b", score=0.2, found=0.0),
        record("c", score=0.7, has_lesions=False),
        record("d", score=0.1, has_lesions=False),
        replace(record("e", score=0.95), source=Source.SEEN),
    ]
    found = summarise(evaluation_of(*cases))
    assert [one.name for one in found.cases] == [Source.PHANTOM, Source.SEEN]
    aside = found.not_trained_on
    assert aside is not None
    assert (aside.scans, aside.with_lesions) == (4, 2)
    assert aside.accuracy.mean == 0.5
    assert aside.auc.mean == 0.75
    assert aside.lesion_dice.mean == pytest.approx(0.4)
    assert aside.hits.mean == 0.5
    assert aside.false_without.mean == 2
    assert aside.volume_error.mean == pytest.approx(60)
    assert aside.involved_error.mean == pytest.approx((0.8 + 4) / 2)
    assert found.patients is None


def test_differences_of_the_front_end_are_by_case() -> None:
    def one(change: str, case: str, value: float) -> FrontEndRecord:
        return FrontEndRecord(
            change=change, case=case, source=Source.PHANTOM, lesion_dice=value, lung_dice=0.9
        )

    records = (
        one(AS_SHIPPED, "a", 0.2),
        one(AS_SHIPPED, "b", 0.8),
        one("x", "a", 0.1),
        one("x", "b", 0.7),
    )
    found = summarise(replace(evaluation_of(), front_end=records)).front_end
    assert [row.change for row in found] == [AS_SHIPPED, "x"]
    difference = found[1].lesion_difference
    assert (difference.mean, difference.low) == (pytest.approx(-0.1), pytest.approx(-0.1))


def test_the_document_says_which_goals_are_missed() -> None:
    cases = [
        replace(record(str(k), score=0.9, found=0.5), source=Source.HELD_OUT) for k in range(3)
    ]
    evaluation = evaluation_of(*cases)
    text = document(evaluation, summarise(evaluation), [])
    goal = next(line for line in text.splitlines() if "synthetic lesions in a real chest" in line)
    assert goal.endswith("| 0.500 [0.500, 0.500] | no |")
    assert "8-bit slices with expert masks" not in text
    assert "](figures/" not in text


def test_a_refused_scan_is_named_with_its_reason() -> None:
    refused = replace(record("scan 7", score=0.0, found=0.0), refused="no lungs")
    evaluation = evaluation_of(refused, record("scan 8", score=0.9))
    text = document(evaluation, summarise(evaluation), [])
    assert "**1 of the scans was refused**" in text
    assert "scan 7 (no lungs)" in text
