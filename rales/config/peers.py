"""Makes the peers from the configuration: callers, destinations, and their TLS."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Callable
from functools import partial

from dicom_out.network.destination import Credentials, Destination, Recipient, WebDestination
from rales.config.sections import Config, DestinationConfig, TlsConfig
from rales.config.tls import ServerTls, client_context
from scp.admission import Admission

_LOG = logging.getLogger(__name__)


def warn_if_commitment_blocked(config: Config) -> None:
    """Warn of each destination with commitment that may not call back to report it."""
    callers = config.security.callers()
    for destination in config.destinations:
        if destination.commitment and callers and destination.ae_title not in callers:
            _LOG.warning(
                "destination %r has commitment = true, but its AE title %s may not call: "
                "add it to [security]",
                destination.name,
                destination.ae_title,
            )


def destinations_of(config: Config) -> dict[str, Recipient]:
    """Return the configured destinations by name."""
    return {section.name: _destination(section, config.tls) for section in config.destinations}


def _destination(section: DestinationConfig, node: TlsConfig) -> Recipient:
    """Return one destination; ``node`` has the certificate that the node shows on request."""
    tls = _tls_context(section, node)
    if section.url is not None:
        return WebDestination(
            name=section.name,
            url=section.url,
            credentials=Credentials(
                token_file=section.token_file,
                user=section.user,
                password_file=section.password_file,
            ),
            tls=tls,
            profile=section.object_profile,
            extras=section.all_extras,
            fallback=section.fallback,
        )
    assert section.ae_title is not None  # rales.config.file has checked
    assert section.host is not None
    assert section.port is not None
    return Destination(
        name=section.name,
        ae_title=section.ae_title,
        host=section.host,
        port=section.port,
        commitment=section.commitment,
        compress=section.compress,
        tls=tls if section.tls else None,
        profile=section.object_profile,
        extras=section.all_extras,
        fallback=section.fallback,
    )


def _tls_context(section: DestinationConfig, node: TlsConfig) -> Callable[[], ssl.SSLContext]:
    """Return what makes the context of each connection, so that new files need no restart."""
    return partial(
        client_context,
        section.ca_file,
        node.certificate_file,
        node.key_file,
        match_host=section.match_host or section.url is not None,  # https always checks the host
    )


def admission_of(config: Config) -> Admission:
    """Return the rule for calling AE titles and addresses."""
    return Admission(
        callers={
            title: tuple(ipaddress.ip_network(address) for address in addresses)
            for title, addresses in config.security.callers().items()
        },
        maximum_per_address=config.network.maximum_associations_per_address,
    )


def server_tls(config: TlsConfig) -> ServerTls | None:
    """Return the TLS of the receiver; None where it has no certificate.

    Raises:
        ConfigError: A file is missing or invalid.
    """
    if config.certificate_file is None:
        return None
    return ServerTls(config.certificate_file, config.key_file, config.client_ca_file)
