"""TLS as DICOM asks for it: the BCP 195 RFC 8996, 9325 profile (PS3.15 section B.12).

TLS 1.2 or 1.3; with 1.2 only the suites with forward secrecy and AES-GCM that RFC 9325
section 4.2 recommends.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from chestct.errors import ConfigError

_LOG = logging.getLogger(__name__)

_SUITES_OF_1_2 = "ECDHE+AESGCM"


def server_context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """Return the context for those who call.

    Args:
        certificate: PEM, the node's own first, then those between it and its authority.
        key: PEM; none when it is in ``certificate``.
        client_ca: PEM of the authorities that callers must have a certificate of; none: no
            certificate is asked for.

    Raises:
        ConfigError: A file cannot be read or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_own(context, certificate, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, client_ca)
    return context


def client_context(
    ca: Path | None, certificate: Path | None, key: Path | None, *, match_host: bool
) -> ssl.SSLContext:
    """Return the context to call a destination with; its certificate is always checked.

    Args:
        ca: PEM of the authorities to trust; none: those that this machine trusts.
        certificate: What to show when it asks for one.
        key: PEM; none when it is in ``certificate``.
        match_host: Whether its certificate must name the host that was called.

    Raises:
        ConfigError: As in :func:`server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = match_host
    if ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, ca)
    if certificate is not None:
        _load_own(context, certificate, key)
    return context


def own_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return the context for the node's call to itself, on this machine.

    It asks whether the node answers; a renewed certificate that it has not read yet, or one
    that does not name 127.0.0.1, is no reason to call it dead.

    Raises:
        ConfigError: As in :func:`server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _load_own(context, certificate, key)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES_OF_1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # A key with a passphrase would ask for it on the terminal, and a service has none.
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        files = f"{certificate} and {key}" if key else f"{certificate}"
        raise ConfigError(f"{files}: no certificate with its key in PEM form: {error}") from error


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; give one without, readable for the node alone")


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    # A certificate that is trusted itself need not be an authority's: a peer's own will do.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:
        raise ConfigError(f"{ca}: no certificates in PEM form: {error}") from error


class ServerTls:
    """The receiver's context, read again when the files changed.

    Raises:
        ConfigError: As in :func:`server_context`, at the first reading.
    """

    def __init__(self, certificate: Path, key: Path | None, client_ca: Path | None) -> None:
        self._files = (certificate, key, client_ca)
        self._context = server_context(*self._files)

    def __call__(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        return self._context

    def reload(self) -> None:
        """Read the files again. What is wrong with them is said, and the old ones stay."""
        try:
            self._context = server_context(*self._files)
        except ConfigError as error:
            _LOG.error("TLS: the certificate in use stays: %s", error)
        else:
            _LOG.info("TLS: read %s again; new connections use it", self._files[0])
