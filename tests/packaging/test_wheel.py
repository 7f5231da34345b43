"""The wheel alone: built, installed in a clean environment, used from another folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("chestct", "dicom_out", "inference", "phantom", "pynetdicom_guard", "rales", "scp")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def needed(name: str) -> set[str]:
    """Return what ``name`` needs to run, and all that this needs in turn; no extras."""
    found: set[str] = set()
    queue = [name]
    while queue:
        for line in metadata.requires(queue.pop()) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                dependency = canonicalize_name(wanted.name)
                if dependency not in found:
                    found.add(dependency)
                    queue.append(dependency)
    return found


def lend(names: set[str], folder: Path) -> None:
    """Link the files of the named distributions of this environment into ``folder``."""
    for name in names:
        for file in metadata.files(name) or []:
            if file.parts[0] != "..":
                link = folder / file.parts[0]
                if not link.exists():
                    link.symlink_to(Path(str(metadata.distribution(name).locate_file(link.name))))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it and, lent from this one, what it says it needs.

    Installing the dependencies anew would fetch hundreds of MB.
    """
    folder = tmp_path_factory.mktemp("clean")
    lent = folder / "lent"
    lent.mkdir()
    lend(needed("rales") | needed("onnxruntime") | {"onnxruntime"}, lent)
    home = folder / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin/python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet"]
    subprocess.run([*command, wheel], check=True)
    site = run(python, "import sysconfig; print(sysconfig.get_path('purelib'))", folder)
    (Path(site.strip()) / "lent.pth").write_text(f"{lent}\n")
    return python


def run(python: Path, program: str, cwd: Path) -> str:
    """Run ``program`` as a stranger would: isolated from PYTHONPATH and the folder it is in."""
    done = subprocess.run(
        [python, "-I", "-c", program], cwd=cwd, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_package_comes_from_the_wheel(python: Path, tmp_path: Path) -> None:
    program = f"""
import importlib, json, sys
packages = {PACKAGES!r}
print(json.dumps([sys.path, [importlib.import_module(name).__file__ for name in packages]]))
"""
    path, files = json.loads(run(python, program, tmp_path))
    assert str(ROOT) not in path
    for file in files:
        assert Path(file).is_relative_to(python.parents[1]), file


def test_every_module_imports_from_the_wheel(python: Path, wheel: Path, tmp_path: Path) -> None:
    """A module that reads a file the wheel forgot, or needs an extra, fails here."""
    with zipfile.ZipFile(wheel) as archive:
        modules = sorted(
            name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for name in archive.namelist()
            if name.endswith(".py") and not name.endswith("/__main__.py")
        )
    assert len(modules) > len(PACKAGES)
    program = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    run(python, program, tmp_path)


def test_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    committed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert inside == set(committed.stdout.splitlines())
    assert {name.split("/")[0] for name in inside} == set(PACKAGES)
    for development in ("bench", "conformance", "tests", "training", "viewer"):
        assert (ROOT / development).is_dir()
        assert not [name for name in inside if development in Path(name).parts]
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside


def test_version_is_the_projects(python: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    program = "from importlib.metadata import version; print(version('rales'))"
    assert run(python, program, tmp_path).strip() == project["version"]


def test_inference_leaves_nothing_behind_and_calls_nobody(python: Path, tmp_path: Path) -> None:
    """ONNX Runtime reports to its maker unless told not to before it is imported.

    Its PyPI builds (seen: 1.31, 1.32) then keep a device identifier and the events to upload
    in the home of whoever runs them.
    """
    program = """
from inference.networks.session import load_models
load_models(None, providers=("CPU",), threads=1)
"""
    done = subprocess.run(
        [python, "-I", "-c", program],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []


def test_command_runs(python: Path, tmp_path: Path) -> None:
    command = [python.with_name("rales"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("serve", "analyze", "status", "retry", "echo", "check", "config"):
        assert f"\n  {name} " in done.stdout
