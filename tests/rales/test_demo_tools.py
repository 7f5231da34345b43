"""The demo finds the programs of the machine, and no namesake beside our interpreter."""

import os
import sys
from pathlib import Path

import pytest

from rales.demo.pacs import find_orthanc
from rales.demo.run import dcmtks_storescu


def test_the_storescu_of_an_activated_environment_is_not_taken_for_dcmtks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = Path(sys.executable).parent
    assert (own / "storescu").exists(), "pynetdicom brings one"
    monkeypatch.setenv("PATH", str(own))
    assert dcmtks_storescu() is None
    theirs = tmp_path / "storescu"
    theirs.write_text("#!/bin/sh\n")
    theirs.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(own), str(tmp_path)]))
    assert dcmtks_storescu() == str(theirs)


@pytest.mark.parametrize("odd", ["", "/"], ids=["empty", "root"])
def test_orthanc_is_found_beside_a_folder_without_a_name(
    odd: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    orthanc = tmp_path / "sbin" / "Orthanc"
    orthanc.parent.mkdir()
    orthanc.write_text("#!/bin/sh\n")
    orthanc.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), odd]))
    assert find_orthanc() == str(orthanc)
