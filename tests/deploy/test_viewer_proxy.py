"""The viewer's nginx in front of a real Orthanc: DICOMweb passes, the rest of Orthanc does not."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from waiting import wait_for

pytestmark = pytest.mark.orthanc

DEPLOY = Path(__file__).parents[2] / "deploy"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetch(url: str, method: str = "GET") -> HTTPResponse:
    request = urllib.request.Request(url, method=method)
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=10)
    return answer


@pytest.fixture(scope="module")
def orthanc(start_orthanc: Callable[[int], Any]) -> Any:
    return start_orthanc(free_port())


@pytest.fixture(scope="module")
def viewer(orthanc: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The shipped nginx.conf with this machine's paths, names and ports."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    site = folder / "html"
    site.mkdir()
    (site / "index.html").write_text("<title>viewer</title>")
    # As the image does it: the script exists empty, its content compressed beside it.
    (site / "app.js").touch()
    (site / "app.js.gz").write_bytes(gzip.compress(b"run()"))
    port = free_port()
    text = (DEPLOY / "compose/nginx.conf").read_text()
    text = re.sub(r" /tmp/", f" {folder}/", text)
    for shipped, here in (
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("/usr/share/nginx/html", str(site)),
        ("/etc/rales/app-config.js", str(DEPLOY / "compose/ohif.js")),
        ("http://orthanc:8042", f"http://127.0.0.1:{orthanc.http_port}"),
    ):
        assert text.count(shipped) == 1
        text = text.replace(shipped, here)
    config = folder / "nginx.conf"
    config.write_text("user root;\n" + text)
    log = (folder / "log").open("wb")
    process = subprocess.Popen([nginx, "-c", config, "-g", "daemon off;"], stderr=log)
    try:
        wait_for("nginx", lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def test_dicomweb_of_orthanc_is_there(viewer: str) -> None:
    with fetch(f"{viewer}/dicom-web/studies") as answer:
        assert json.load(answer) == []


def test_the_rest_of_orthanc_is_not(viewer: str, orthanc: Any) -> None:
    assert orthanc.get("/instances") == []
    with fetch(f"{viewer}/instances") as answer:
        assert b"viewer" in answer.read()


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_the_viewer_cannot_write(viewer: str, method: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(f"{viewer}/dicom-web/studies", method)
    refused.value.close()
    assert refused.value.code == 403


def test_viewer_gets_its_files_and_our_configuration(viewer: str) -> None:
    with fetch(f"{viewer}/viewer?StudyInstanceUIDs=1.2.3") as answer:
        assert b"viewer" in answer.read()
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    with fetch(f"{viewer}/app.js") as answer:
        assert answer.read() == b"run()"
    with fetch(f"{viewer}/app-config.js") as answer:
        assert answer.read() == (DEPLOY / "compose/ohif.js").read_bytes()
        assert "javascript" in answer.headers["Content-Type"]


def test_viewer_configuration_is_a_script_that_names_its_source() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    program = (
        "globalThis.window = {}; require(process.argv[1]);"
        "console.log(JSON.stringify(window.config))"
    )
    done = subprocess.run(
        [node, "-e", program, DEPLOY / "compose/ohif.js"], check=True, capture_output=True
    )
    settings = json.loads(done.stdout)
    (source,) = settings["dataSources"]
    assert source["sourceName"] == settings["defaultDataSourceName"]
    nginx = (DEPLOY / "compose/nginx.conf").read_text()
    for root in ("qidoRoot", "wadoRoot", "wadoUriRoot"):
        assert re.search(rf"location {source['configuration'][root]}/ ", nginx)
