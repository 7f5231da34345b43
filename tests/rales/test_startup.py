"""A command imports only what it uses: containers run ``rales echo`` every few seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from rales.cli import cli
from rales.state.store import Database

ANALYSIS = {"onnxruntime", "scipy", "highdicom", "cv2", "PIL.ImageDraw", "gdcm._gdcm"}
DICOM = {"pydicom", "pynetdicom", "numpy"}
CONFIG = {"pydantic", "tomllib", "rich"}
WEB = {"dicomweb_client", "rales.steps", "rales.node", "scp"}


def _imported(folder: Path, *words: str) -> set[str]:
    """Return the names of the modules that a command imports."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "from rales.cli import main\n"
        f"sys.argv = {['rales', *words]!r}\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return set(done.stderr.split())


def _commands(group: click.Group, *names: str) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found = [names]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.name == name
        if isinstance(command, click.Group):
            found += _commands(command, *names, name)
        else:
            found.append((*names, name))
    return found


@pytest.mark.parametrize("command", _commands(cli), ids=" ".join)
def test_help_imports_no_library_but_click(command: tuple[str, ...], tmp_path: Path) -> None:
    imported = _imported(tmp_path, *command, "--help")
    assert "click" in imported
    assert not imported & (ANALYSIS | DICOM | CONFIG | WEB)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rales.toml").write_text('[node]\nhost = "127.0.0.1"\nport = 1\ndata_dir = "var"\n')
    Database(tmp_path / "var" / "state.sqlite").close()
    return tmp_path


def test_status_imports_no_dicom(folder: Path) -> None:
    imported = _imported(folder, "status")
    assert "rales.state.store" in imported
    assert not imported & (ANALYSIS | DICOM | {"requests", "urllib3", "rales.node"})


def test_echo_imports_no_analysis_and_no_receiver(folder: Path) -> None:
    imported = _imported(folder, "echo")
    assert "pynetdicom" in imported
    assert not imported & (ANALYSIS | WEB | {"rich", "sqlite3"})


def test_config_check_imports_no_analysis(folder: Path) -> None:
    imported = _imported(folder, "config", "check", "rales.toml")
    assert "rales.config.file" in imported
    assert not imported & (ANALYSIS | {"rales.node", "rales.steps", "sqlite3"})
