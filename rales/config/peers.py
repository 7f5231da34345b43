"""From the configuration to the peers: who may call, who is called, and over what."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Callable
from functools import partial

from dicom_out.network.destination import Destination
from dicom_out.network.recipients import Recipient
from dicom_out.network.web import Credentials, WebDestination
from rales.config.sections import Config, DestinationConfig, TlsConfig
from rales.config.tls import ServerTls, client_context
from scp.admission import Admission

_LOG = logging.getLogger(__name__)


def warn_of_closed_door(config: Config) -> None:
    """Name destinations that are asked to commit and may not call back to say so."""
    allowed = config.security.callers()
    for one in config.destinations:
        if one.commitment and allowed and one.ae_title not in allowed:
            _LOG.warning(
                "%s is to report commitments, but %s is not among the callers of [security]",
                one.name,
                one.ae_title,
            )


def destinations_of(config: Config) -> dict[str, Recipient]:
    """Return the configured destinations by name."""
    return {
        one.name: _service(one, config.tls) if one.url else _application_entity(one, config.tls)
        for one in config.destinations
    }


def _application_entity(one: DestinationConfig, own: TlsConfig) -> Destination:
    assert one.ae_title is not None  # rales.config.file has looked
    assert one.host is not None
    assert one.port is not None
    return Destination(
        name=one.name,
        ae_title=one.ae_title,
        host=one.host,
        port=one.port,
        commitment=one.commitment,
        segmentation=one.segmentation,
        compress=one.compress,
        extras=one.extras,
        fallback=one.fallback,
        tls=_tls_to(one, own) if one.tls else None,
    )


def _service(one: DestinationConfig, own: TlsConfig) -> WebDestination:
    """Return a DICOMweb service; the node shows its own certificate where it is asked for one."""
    assert one.url is not None
    return WebDestination(
        name=one.name,
        url=one.url,
        credentials=Credentials(
            token_file=one.token_file, user=one.user, password_file=one.password_file
        ),
        ca_file=one.ca_file,
        own=(own.certificate_file, own.key_file) if own.certificate_file else None,
        segmentation=one.segmentation,
        extras=one.extras,
        fallback=one.fallback,
    )


def _tls_to(destination: DestinationConfig, own: TlsConfig) -> Callable[[], ssl.SSLContext]:
    """Return what makes the context for each call, so that new certificates need no restart.

    The node shows its own certificate where it is asked for one.
    """
    return partial(
        client_context,
        destination.ca_file,
        own.certificate_file,
        own.key_file,
        match_host=destination.match_host,
    )


def admission_of(config: Config) -> Admission:
    """Return who may call."""
    callers = config.security.callers()
    return Admission(
        callers={
            title: tuple(ipaddress.ip_network(one) for one in addresses)
            for title, addresses in callers.items()
        },
        maximum_per_address=config.network.maximum_associations_per_address,
    )


def server_tls(config: TlsConfig) -> ServerTls | None:
    """Return the receiver's TLS; None where it has no certificate.

    Raises:
        ConfigError: A file is missing or is not what it should be.
    """
    if config.certificate_file is None:
        return None
    return ServerTls(config.certificate_file, config.key_file, config.client_ca_file)
