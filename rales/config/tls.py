"""TLS contexts for the receiver and for every client: DICOM, DICOMweb, webhooks, FHIR.

They follow the BCP 195 RFC 8996, 9325 profile (PS3.15 section B.12): TLS 1.2 or 1.3, and with 1.2
only the suites with forward secrecy and AES-GCM that RFC 9325 section 4.2 recommends.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from chestct.errors import ConfigError

_LOG = logging.getLogger(__name__)

_SUITES_OF_1_2 = "ECDHE+AESGCM"


def server_context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """Return the context of the receiver.

    Args:
        certificate: PEM: the node's certificate first, then the chain to its authority.
        key: PEM; None when it is in ``certificate``.
        client_ca: PEM of the authorities whose certificate a caller must show; None: the receiver
            asks for no certificate.

    Raises:
        ConfigError: A file cannot be read or is invalid.
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
    """Return the context of a client; it always checks the certificate of the server.

    Args:
        ca: PEM of the authorities to trust; None: those that this machine trusts.
        certificate: PEM of the certificate to show when the server asks for one.
        key: PEM; None when it is in ``certificate``.
        match_host: Whether the certificate of the server must name the host that was called.

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
    """Return the context of the node's health check of itself, on this machine.

    It does not check the certificate: a renewed certificate that the node has not read yet, or one
    that does not name 127.0.0.1, does not mean that the node is down.

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
        # OpenSSL would ask for a passphrase on the terminal, and a service has none.
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        files = f"{certificate} and {key}" if key else f"{certificate}"
        raise ConfigError(
            f"{files}: not a certificate with its key in PEM form: {error}"
        ) from error


def _no_passphrase() -> str:
    raise ValueError(
        "the key has a passphrase: use a key without one, and let only the node read it"
    )


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    # The file may hold the certificate of the peer itself instead of an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:
        raise ConfigError(f"{ca}: not certificates in PEM form: {error}") from error


class ServerTls:
    """The TLS context of the receiver, which :meth:`reload` renews.

    Raises:
        ConfigError: As in :func:`server_context`, when the files are read first.
    """

    def __init__(self, certificate: Path, key: Path | None, client_ca: Path | None) -> None:
        self._files = (certificate, key, client_ca)
        self._context = server_context(*self._files)

    def __call__(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        return self._context

    def reload(self) -> None:
        """Read the files again; if they are invalid, log why and keep the old context."""
        try:
            self._context = server_context(*self._files)
        except ConfigError as error:
            _LOG.error(
                "TLS: the certificate in use stays, because the new files are invalid: %s", error
            )
        else:
            _LOG.info("TLS: read %s again; new connections use it", self._files[0])
