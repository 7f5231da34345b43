"""TLS with a node that runs as a process of its own: who gets in, who does not, and renewal."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pydicom
import pytest
from certificates import Authority, Pair
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from tiny_node import TinyNode, tiny_thorax, write_models, write_tiny_series
from waiting import wait_for

from chestct.errors import ConfigError
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.sender import echo
from rales.config.tls import client_context, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Pair:
    return authority.issue("scanner")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TinyNode]:
    """A node that takes only callers with a certificate of the authority."""
    folder = tmp_path_factory.mktemp("node")
    own = authority.issue("node")
    node = TinyNode(
        folder=folder,
        models=write_models(folder / "models", tiny_thorax()),
        destinations=[],
        extra=f'[tls]\ncertificate_file = "{own.certificate}"\nkey_file = "{own.key}"\n'
        f'client_ca_file = "{authority.file}"\n',
    )
    node.launch()
    caller = authority.issue("probe")
    wait_for("the node to answer", lambda: _echo(node, authority.file, caller))
    yield node
    assert node.terminate() == 0


def _echo(node: TinyNode, ca: Path, pair: Pair | None) -> bool:
    return _answer(node, ca, pair)[0]


def _answer(
    node: TinyNode, ca: Path, pair: Pair | None, host: str = "127.0.0.1"
) -> tuple[bool, str]:
    destination = Destination(
        name="node",
        ae_title="RALES",
        host="127.0.0.1",
        port=node.port,
        tls=partial(
            client_context,
            ca,
            pair.certificate if pair else None,
            pair.key if pair else None,
            match_host=True,
        ),
    )
    outcome = echo(destination, calling_ae="CT1", timeout_seconds=10)
    return outcome.kind is OutcomeKind.DELIVERED, outcome.message


def _served_certificate(node: TinyNode, authority: Authority, pair: Pair) -> bytes:
    context = client_context(authority.file, pair.certificate, pair.key, match_host=True)
    with (
        socket.create_connection(("127.0.0.1", node.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        found = secure.getpeercert(binary_form=True)
    assert found
    return found


def test_a_series_arrives_over_tls(
    node: TinyNode, authority: Authority, scanner: Pair, tmp_path: Path
) -> None:
    series = write_tiny_series(tiny_thorax(), tmp_path, "secure")
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    context = client_context(authority.file, scanner.certificate, scanner.key, match_host=True)
    association = ae.associate(
        "127.0.0.1", node.port, ae_title="RALES", tls_args=(context, "127.0.0.1")
    )
    assert association.is_established
    statuses = [association.send_c_store(pydicom.dcmread(file)).Status for file in series.files]
    association.release()
    assert statuses == [0] * len(series.files)
    assert node.ended(series.uid) == "done"


@pytest.mark.dcmtk
@pytest.mark.skipif(not shutil.which("echoscu"), reason="needs Debian's dcmtk")
def test_dcmtk_speaks_it_too(node: TinyNode, authority: Authority, scanner: Pair) -> None:
    command = ["echoscu", "-aec", "RALES", "+tls", scanner.key, scanner.certificate]
    command += ["+cf", authority.file, "127.0.0.1", str(node.port)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_nobody_without_a_certificate_of_the_authority_gets_in(
    node: TinyNode, authority: Authority, stranger: Authority
) -> None:
    assert not _echo(node, authority.file, None)
    assert not _echo(node, authority.file, stranger.issue("scanner"))


def test_a_caller_hears_why_a_certificate_is_not_trusted(
    node: TinyNode, stranger: Authority, authority: Authority, scanner: Pair
) -> None:
    answered, message = _answer(node, stranger.file, scanner)
    assert not answered
    assert "the TLS handshake failed" in message
    assert "certificate verify failed" in message
    elsewhere = authority.issue("elsewhere", "pacs.example.org")
    context = server_context(elsewhere.certificate, elsewhere.key, None)
    ae = AE(ae_title="PACS")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context)
    try:
        destination = Destination(
            name="pacs",
            ae_title="PACS",
            host="127.0.0.1",
            port=server.server_address[1],
            tls=partial(client_context, authority.file, None, None, match_host=True),
        )
        outcome = echo(destination, calling_ae="CT1", timeout_seconds=10)
        assert "127.0.0.1" in outcome.message
        assert "IP address mismatch" in outcome.message
    finally:
        ae.shutdown()


def test_plain_dicom_is_not_spoken(node: TinyNode) -> None:
    destination = Destination(name="node", ae_title="RALES", host="127.0.0.1", port=node.port)
    outcome = echo(destination, calling_ae="CT1", timeout_seconds=10)
    assert outcome.kind is OutcomeKind.FAILED


def _may_be_weak(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_an_old_version_and_a_suite_without_forward_secrecy_are_refused(
    node: TinyNode, scanner: Pair
) -> None:
    old = _may_be_weak(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    weak = _may_be_weak(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES256-GCM-SHA384:AES128-SHA")
    good = _may_be_weak(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    good.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (old, weak, good):
        context.load_cert_chain(scanner.certificate, scanner.key)

    def shake(context: ssl.SSLContext) -> tuple[str, str, int] | None:
        with (
            socket.create_connection(("127.0.0.1", node.port), 10) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return secure.cipher()

    for context in (old, weak):
        with pytest.raises(ssl.SSLError):
            shake(context)
    found = shake(good)
    assert found is not None
    assert "ECDHE" in found[0]
    assert "GCM" in found[0]


def test_a_handshake_that_never_ends_keeps_nobody_out(
    node: TinyNode, authority: Authority, scanner: Pair
) -> None:
    silent = [socket.create_connection(("127.0.0.1", node.port), 10) for _ in range(100)]
    try:
        assert _echo(node, authority.file, scanner)
        # They are closed by and by: the first ones because of the crowd, the others by time.
        silent[0].settimeout(60)
        assert silent[0].recv(1) == b""
        silent[-1].settimeout(60)
        assert silent[-1].recv(1) == b""
    finally:
        for one in silent:
            one.close()
    assert "the TLS handshake failed" in node.log()


def test_a_new_certificate_is_taken_at_sighup_and_a_bad_one_is_not(
    node: TinyNode, authority: Authority, scanner: Pair
) -> None:
    assert node.process is not None
    ae = AE(ae_title="CT1")
    ae.add_requested_context("1.2.840.10008.1.1")
    context = client_context(authority.file, scanner.certificate, scanner.key, match_host=True)
    running = ae.associate(
        "127.0.0.1", node.port, ae_title="RALES", tls_args=(context, "127.0.0.1")
    )
    assert running.is_established
    before = _served_certificate(node, authority, scanner)
    renewed = authority.issue("node")
    assert _served_certificate(node, authority, scanner) == before
    node.process.send_signal(signal.SIGHUP)
    wait_for("the new certificate", lambda: _served_certificate(node, authority, scanner) != before)
    after = _served_certificate(node, authority, scanner)
    assert running.send_c_echo().Status == 0
    running.release()
    renewed.certificate.write_text("no certificate")
    node.process.send_signal(signal.SIGHUP)
    wait_for("the refusal", lambda: "the certificate in use stays" in node.log())
    assert _served_certificate(node, authority, scanner) == after


def test_the_health_check_knows_the_nodes_own_certificate(
    node: TinyNode, authority: Authority
) -> None:
    authority.issue("node")
    command = [sys.executable, "-m", "rales", "echo"]
    command += ["--config", str(node.folder / "rales.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers C-ECHO" in done.stdout


@pytest.mark.parametrize("wrong", ["missing", "text", "other key", "passphrase"])
def test_a_wrong_file_is_named(authority: Authority, tmp_path: Path, wrong: str) -> None:
    pair = authority.issue("wrong")
    certificate, key = pair.certificate, pair.key
    if wrong == "missing":
        key = tmp_path / "no.key"
    elif wrong == "text":
        certificate = tmp_path / "text.pem"
        certificate.write_text("hello")
    elif wrong == "other key":
        key = authority.issue("another").key
    else:
        key = tmp_path / "closed.key"
        command = ["openssl", "pkey", "-in", str(pair.key), "-aes256", "-passout", "pass:secret"]
        subprocess.run([*command, "-out", str(key)], check=True, capture_output=True)
    with pytest.raises(ConfigError, match=str(key if wrong != "text" else certificate)):
        server_context(certificate, key, None)


def test_what_a_pacs_over_tls_was_sent_arrives(authority: Authority) -> None:
    own, pair = authority.issue("pacs"), authority.issue("rales")
    seen: list[object] = []
    ae = AE(ae_title="PACS")
    ae.add_supported_context("1.2.840.10008.1.1")

    def on_echo(event: evt.Event) -> int:
        seen.append(event.assoc.dul.socket.socket.getpeercert())
        return 0x0000

    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        ssl_context=server_context(own.certificate, own.key, authority.file),
        evt_handlers=[(evt.EVT_C_ECHO, on_echo)],
    )
    try:
        destination = Destination(
            name="pacs",
            ae_title="PACS",
            host="127.0.0.1",
            port=server.server_address[1],
            tls=partial(
                client_context, authority.file, pair.certificate, pair.key, match_host=True
            ),
        )
        assert echo(destination, calling_ae="RALES").kind is OutcomeKind.DELIVERED
    finally:
        ae.shutdown()
    assert seen[0]
