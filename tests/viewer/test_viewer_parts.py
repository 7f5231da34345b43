"""The viewer's proxy and the fetching of OHIF, without a browser."""

from __future__ import annotations

import http.client
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from ports import free_port

import viewer.__main__
import viewer.ohif
from phantom import PhantomIdentity
from rales.demo.pacs import DemoFailed
from viewer.ohif import VERSION, ohif_dist
from viewer.proxy import Site, serve_site


class _Pacs(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers['Host']} {self.headers['Accept']}".encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def pacs() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pacs) as server:
        Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    files = tmp_path / "dist"
    files.mkdir()
    (files / "index.html").write_text("<title>viewer</title>")
    (files / "app.js").write_text("run()")
    (tmp_path / "ohif.js").write_text("window.config = {}")
    (tmp_path / "secret").write_text("secret")
    return Site(files=files, config=tmp_path / "ohif.js", pacs=free_port())


def ask(
    url: str, path: str, method: str = "GET", host: str = "localhost"
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=10)
    connection.request(method, path, headers={"Host": host, "Accept": "multipart/related"})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.headers)


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/app.js", "run()", "text/javascript"),
        ("/app-config.js", "window.config = {}", "text/javascript"),
        ("/viewer?StudyInstanceUIDs=1.2", "<title>viewer</title>", "text/html"),
        ("/../secret", "<title>viewer</title>", "text/html"),
        ("/%2e%2e/secret", "<title>viewer</title>", "text/html"),
    ],
)
def test_the_viewer_gets_its_files_and_no_others(
    site: Site, path: str, body: str, kind: str
) -> None:
    with serve_site(site, 0) as url:
        status, got, headers = ask(url, path)
    assert (status, got, headers["Content-Type"]) == (200, body, kind)
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_dicomweb_passes_with_the_host_and_the_kind_that_were_asked_for(
    site: Site, pacs: int
) -> None:
    with serve_site(Site(files=site.files, config=site.config, pacs=pacs), 0) as url:
        status, body, headers = ask(url, "/dicom-web/studies?limit=1")
        assert (status, headers["Content-Type"]) == (200, "application/dicom+json")
        assert body == "/dicom-web/studies?limit=1 localhost multipart/related"
        assert ask(url, "/dicom-web/missing")[0] == 404
        assert ask(url, "/instances")[1] == "<title>viewer</title>"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(site: Site, pacs: int, method: str) -> None:
    with serve_site(Site(files=site.files, config=site.config, pacs=pacs), 0) as url:
        assert ask(url, "/dicom-web/studies", method)[0] == 501


def test_a_page_of_elsewhere_cannot_use_a_name_of_its_own(site: Site) -> None:
    with serve_site(site, 0) as url:
        assert ask(url, "/app.js", host="evil.example")[0] == 403
        assert ask(url, "/app.js", host="127.0.0.1:3000")[0] == 200


def test_a_pacs_that_is_gone_is_a_bad_gateway(site: Site) -> None:
    with serve_site(site, 0) as url:
        assert ask(url, "/dicom-web/studies")[0] == 502


def test_a_port_that_is_taken_is_named(site: Site, pacs: int) -> None:
    with pytest.raises(DemoFailed, match=f"port {pacs} "), serve_site(site, pacs):
        pass


def test_without_npm_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoFailed, match="apt-get install npm"):
        ohif_dist(tmp_path)


def test_without_orthanc_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer.__main__, "has_dicomweb", lambda: False)
    monkeypatch.setattr(viewer.__main__.signal, "signal", lambda *_: None)  # pytest keeps its own
    done = CliRunner().invoke(viewer.__main__.main, [])
    assert done.exit_code == 1
    assert "apt-get install orthanc orthanc-dicomweb" in done.output


def _fake_npm(folder: Path) -> None:
    """Write an npm whose package holds other bytes than those that are pinned."""
    (folder / "index.html").write_text("<title>viewer</title>")
    (folder / "app.js.map").write_text("{}")
    with tarfile.open(folder / "package.tgz", "w:gz") as tar:
        for name in ("index.html", "app.js.map"):
            tar.add(folder / name, f"package/dist/{name}")
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n/bin/cp {folder / 'package.tgz'} .\n")
    npm.chmod(0o755)


def test_another_package_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_npm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoFailed, match="not the pinned"):
        ohif_dist(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_pinned_package_is_unpacked_once_without_its_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_npm(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    digest = viewer.ohif.digest_of(tmp_path / "package.tgz")
    monkeypatch.setattr(viewer.ohif, "_SHA512", digest)
    dist = ohif_dist(tmp_path / "kept")
    assert [path.name for path in dist.iterdir()] == ["index.html"]
    assert [path.name for path in dist.parent.iterdir()] == [f"ohif-{VERSION}"]
    (tmp_path / "npm").unlink()
    assert ohif_dist(tmp_path / "kept") == dist


def test_an_unreachable_registry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho ENOTFOUND >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoFailed, match="within reach") as failed:
        ohif_dist(tmp_path / "kept")
    assert "ENOTFOUND" in str(failed.value)


def test_the_viewer_can_search_for_the_sample_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[PhantomIdentity] = []
    monkeypatch.setattr(viewer.__main__, "make_thorax", lambda spec: spec)
    monkeypatch.setattr(
        viewer.__main__,
        "write_series",
        lambda _thorax, _folder, identity: written.append(identity),
    )
    list(viewer.__main__._make_samples(tmp_path, lambda _line: None))
    assert len(written) == 2
    assert all(identity.patient_id.replace("-", "").isalnum() for identity in written)
