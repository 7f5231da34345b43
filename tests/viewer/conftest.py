"""One Orthanc, one OHIF and one Chromium for every test of the viewer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from enhanced_ct import Layout
from ohif_page import CHROMIUM_ARGS
from playwright.sync_api import BrowserContext, sync_playwright

from phantom import PhantomIdentity, Thorax, write_series
from rales.demo.pacs import has_dicomweb
from viewer.ohif import VERSION

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeViewer:
    """What ``make viewer`` runs, while it runs; ``scratch`` is where its temporary files go."""

    process: subprocess.Popen[str]
    said: list[str]
    links: list[str]
    scratch: Path

    def stop(self) -> int:
        """Press Ctrl-C and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


def _chromium() -> str | None:
    return shutil.which("chromium")


def _missing() -> list[str]:
    fetched = (ROOT / "var/viewer" / f"ohif-{VERSION}" / "index.html").is_file()
    there = {
        "orthanc and orthanc-dicomweb": has_dicomweb(),
        "chromium": _chromium() is not None,
        "npm": fetched or shutil.which("npm") is not None,
    }
    return [name for name, found in there.items() if not found]


@pytest.fixture(scope="session")
def multi_frame_series(small_thorax: Thorax, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom with lesions as one Enhanced CT, its frames in no order."""
    identity = PhantomIdentity(patient_id="MULTI-FRAME")
    slices = write_series(small_thorax, tmp_path_factory.mktemp("slices"), identity)
    (image,) = Layout(seed=3).apply([pydicom.dcmread(path) for path in slices])
    folder = tmp_path_factory.mktemp("multi-frame-series")
    image.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(scope="package")
def make_viewer(
    small_series: Path,
    healthy_series: Path,
    multi_frame_series: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MakeViewer]:
    """Run it on phantoms with lesions, without, and in one multi-frame image."""
    if missing := _missing():
        pytest.skip(f"not installed (Debian packages): {', '.join(missing)}")
    scratch = tmp_path_factory.mktemp("viewer")
    command = [sys.executable, "-m", "viewer", "--port", "0"]
    for series in (small_series, healthy_series, multi_frame_series):
        command += ["--series", str(series)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line.rstrip())
            if "Ctrl-C" in line:
                break
        links = [line for line in said if line.startswith("http://")]
        assert len(links) == 3, "\n".join(said)
        running = MakeViewer(process=process, said=said, links=links, scratch=scratch)
        yield running
    finally:
        # Its children too, should it not have ended as it ought to.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="package")
def browser(make_viewer: MakeViewer) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=_chromium(), headless=True, args=list(CHROMIUM_ARGS)
        )
        context = chromium.new_context(
            viewport={"width": 1280, "height": 800}, service_workers="block"
        )
        # The tour that greets a new user would lie over everything.
        context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        yield context
        context.close()
        chromium.close()
