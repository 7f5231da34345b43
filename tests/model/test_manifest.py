"""A manifest that breaks its contract is refused with the name of the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from linear_models import ModelFolder

from chestct.errors import ModelError
from inference.networks.manifest import read_manifest


@pytest.fixture
def manifest(folder: ModelFolder) -> Path:
    return folder.write("lesions", [[0.0, 1.0, 0.0]])


def changed(manifest: Path, old: str, new: str) -> Path:
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))
    return manifest


def test_reads_every_field(manifest: Path) -> None:
    read = read_manifest(manifest)
    assert (read.task, read.classes, read.activation) == ("lesions", ("lesion",), "none")
    assert (read.input.rows, read.input.context, read.input.window) == (16, 3, (-1000.0, 1000.0))
    assert read.threshold == 0.5
    assert read.presence is not None
    assert (read.presence.certainty, read.presence.volume_ml) == (0.6, 0.5)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('name = "test-lesions"', 'name = ""', "name"),
        ('task = "lesions"', 'task = "liver"', "task"),
        ('sha256 = "', 'sha256 = "F', "sha256"),
        ('activation = "none"', 'activation = "tanh"', "activation"),
        ('licence = "none"', "", "licence"),
        ('licence = "none"', 'licence = "none"\nthreshhold = 0.4', "threshhold"),
        ('licence = "none"', 'licence = "none"\nthreshold = 1.5', "threshold"),
        ('classes = ["lesion"]', 'classes = ["tumour"]', "lesion"),
        ('classes = ["lesion"]', 'classes = ["lesion", "lesion"]', "twice"),
        ("rows = 16", "rows = 0", "input.rows"),
        ("context = 3", "context = 2", "input.context"),
        ("context_mm = 3.0", "context_mm = inf", "input.context_mm"),
        ("window = [-1000.0, 1000.0]", "window = [1000.0, -1000.0]", "input.window"),
        ("window = [-1000.0, 1000.0]", "window = [nan, 1000.0]", "input.window"),
        ("clahe_clip = 0.0", "clahe_clip = -1.0", "input.clahe_clip"),
        ("stride = 2", "stride = 0", "presence.stride"),
        ("certainty = 0.6", "certainty = 2", "presence.certainty"),
        ("volume_ml = 0.5", "volume_ml = 0", "presence.volume_ml"),
        ("[presence]", "[presense]", "presense"),
        ("rows = 16", "rows =", "TOML"),
        ("rows = 16", "kind = 'volume'\nrows = 16", "input: .*'volume'"),
        ("rows = 16", "kind = 'patch'\nrows = 16", r"input\.patch: Field required"),
        ("rows = 16", "mean = 3.0\nrows = 16", "mean and std"),
        ("rows = 16", "mean = 3.0\nstd = 1.0\nvalues = [0, 1]\nrows = 16", "exclude each other"),
        ("rows = 16", "std = 0.0\nmean = 1.0\nrows = 16", r"input\.std"),
        ("rows = 16", "spacing = [1.0, -1.0]\nrows = 16", r"input\.spacing"),
        ('activation = "none"', 'activation = "softmax"', "softmax over one class"),
        ("[presence]", "[labels]\nlesions = ['lesion']\n[presence]", r"classes lack lesion"),
        (
            "[presence]",
            "[labels]\nlesion = ['tumour']\n[presence]",
            "must list names of classes, not .*tumour",
        ),
        (
            "[presence]",
            "[labels]\nlesion = []\n[presence]",
            "must list names of classes, not nothing",
        ),
        ("[presence]", "[output]\nminimum_lesion_ml = -1\n[presence]", "minimum_lesion_ml"),
    ],
)
def test_names_what_is_wrong(manifest: Path, old: str, new: str, word: str) -> None:
    with pytest.raises(ModelError, match=word):
        read_manifest(changed(manifest, old, new))


def test_a_lesion_model_needs_a_presence_rule(manifest: Path) -> None:
    text = manifest.read_text()
    manifest.write_text(text[: text.index("[presence]")])
    with pytest.raises(ModelError, match=r"\[presence\]"):
        read_manifest(manifest)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.toml"):
        read_manifest(tmp_path / "absent.toml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="TOML"):
        read_manifest(tmp_path / "binary.toml")


def test_a_network_with_one_class_for_both_lungs_is_told_what_is_missing(
    folder: ModelFolder,
) -> None:
    path = folder.write("lungs", [[1.0], [0.0]], classes=["background", "lung"])
    with pytest.raises(
        ModelError, match=r"lack left, right\. A lung network needs a class for each lung"
    ):
        read_manifest(path)


def test_a_channel_belongs_to_one_class(folder: ModelFolder) -> None:
    path = folder.write(
        "lungs",
        [[1.0], [0.0]],
        classes=["a", "b"],
        extra='[labels]\nright = ["a"]\nleft = ["a"]\n',
    )
    with pytest.raises(ModelError, match="labels use a name of classes twice"):
        read_manifest(path)


def test_what_the_manifest_leaves_out(manifest: Path) -> None:
    read = read_manifest(manifest)
    assert read.output.minimum_lesion_ml == 0.5
    assert read.input.ends == (0.0, 1.0)
    assert read.channels == {"lesion": (0,)}
