"""PixelMed's validator of SR: it checks every content item against its template (PS3.16)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

_JARS = (Path("/usr/share/java/bsh.jar"), Path("/usr/share/java/pixelmed.jar"))
_SCRIPT = """
validator = new com.pixelmed.validate.DicomSRValidator();
for (path : bsh.args) { print("FILE " + path); print(validator.validate(path)); }
"""
_NO_LIMITS = [f"-Djdk.xml.xpath{name}OpLimit=0" for name in ("Total", "Expr")]
"""The rules are longer than what Java accepts of a style sheet by default."""


def pixelmed_findings(paths: Iterable[Path], script: Path) -> dict[Path, list[str]]:
    """Return the errors and warnings on each SR; skip without PixelMed.

    One Java process reads all files, because it needs 10 s to compile the rules. BeanShell runs
    the loop, which PixelMed's own command lacks. ``script`` is where the loop is written to.
    """
    java = shutil.which("java")
    if java is None or not all(jar.exists() for jar in _JARS):
        pytest.skip("PixelMed is not installed (Debian: pixelmed-apps bsh)")
    script.write_text(_SCRIPT)
    command = [java, "-XX:+UseSerialGC", *_NO_LIMITS, "-Djdk.xml.xpathExprGrpLimit=0"]
    command += ["-cp", ":".join(map(str, _JARS)), "bsh.Interpreter", str(script)]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    findings: dict[Path, list[str]] = {}
    for part in done.stdout.split("FILE ")[1:]:
        path, *lines = part.splitlines()
        assert "Root Template Validation Complete" in lines, done.stdout + done.stderr
        findings[Path(path)] = [line for line in lines if line.startswith(("Error", "Warning"))]
    return findings
