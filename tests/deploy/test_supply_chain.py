"""What is shipped is known: locked with hashes, listed, looked up, and run without rights."""

from __future__ import annotations

import json
import os
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

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LOCK = (DEPLOY / "requirements.txt").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of every locked distribution."""
    found = {}
    for entry in re.split(r"(?m)^(?=[\w.-]+==)", LOCK):
        match = re.match(r"([\w.-]+)==([^\s;\\]+)", entry)
        if match:
            found[match[1]] = (match[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found


def test_every_dependency_is_locked_and_every_lock_has_hashes() -> None:
    entries = locked()
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["cpu"]:
        wanted = Requirement(line)
        assert wanted.name in entries, f"make lock: {wanted.name} is missing"
        assert wanted.specifier.contains(entries[wanted.name][0]), f"make lock: {wanted}"
    assert all(hashes for _, hashes in entries.values())
    lines = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(lines) == len(entries), "nothing in the lock stands there without a version"


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_install_nothing_but_what_is_locked(name: str) -> None:
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^&\n]*)", text)
    assert installs
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps" in arguments, arguments


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_run_as_a_user_without_rights_and_keep_their_data_to_themselves(name: str) -> None:
    text = (DEPLOY / name).read_text()
    (user,) = re.findall(r"(?m)^USER (\d+)$", text)
    assert int(user) > 999
    assert "--mode 0700 /var/lib/rales" in text


def test_the_composed_node_has_a_read_only_root_and_no_capabilities() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["rales"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged", False)
    assert "user" not in service, "the image's own user"
    writable = [one for one in service["volumes"] if not one.endswith(":ro")]
    assert writable == ["rales-data:/var/lib/rales"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - in the container


def _tool(name: str) -> str:
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f"{name} is not installed (pip install rales[dev])")
    return path


def test_make_sbom_lists_every_locked_distribution(tmp_path: Path) -> None:
    _tool("cyclonedx-py")
    recipe = subprocess.run(
        ["make", "--silent", "--dry-run", "sbom", f"VENV={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (command,) = re.findall(r"(?ms)^\S*/cyclonedx-py .*?[^\\]$", recipe)
    program = str(Path(sys.executable).parent)
    out = tmp_path / "sbom.json"
    command = command.replace(f"{tmp_path}/bin/", f"{program}/")
    command = command.replace("dist/rales.cdx.json", str(out))
    subprocess.run(["bash", "-c", command], cwd=ROOT, check=True, capture_output=True)
    bill = json.loads(out.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == PROJECT["name"]
    listed = {(one["name"], one["version"]) for one in bill["components"]}
    assert listed >= {(name, version) for name, (version, _) in locked().items()}


def test_the_vulnerability_report_never_fails_a_build_that_is_offline(tmp_path: Path) -> None:
    _tool("pip-audit")
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    environment = os.environ | nowhere | {"BIN": str(Path(sys.executable).parent)}
    for arguments, passes in (([], True), (["--strict"], False)):
        done = subprocess.run(
            [ROOT / "scripts/audit-dependencies", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert (done.returncode == 0) == passes, done.stderr
        assert "or could not be looked up" in done.stdout


def test_ci_makes_the_bill_and_the_report() -> None:
    steps = (ROOT / ".ci/run").read_text()
    assert re.search(r"(?m)^make sbom$", steps)
    assert re.search(r"(?m)^make audit$", steps)
