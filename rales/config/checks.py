"""Checks of the configuration that concern several keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from rales.config.sections import Config, DestinationConfig, NotificationConfig

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_DIMSE_ONLY = ("ae_title", "host", "port", "commitment", "compress", "tls")
_WEB_ONLY = ("token_file", "user", "password_file")


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each with its section and what to do."""
    yield from _duplicate_names(config)
    for destination in config.destinations:
        check = _web_destination if destination.url else _dimse_destination
        for problem in check(destination):
            yield f"destinations: {destination.name!r} {problem}"
        for problem in _profile_problems(destination):
            yield f"destinations: {destination.name!r} {problem}"
    yield from _unknown_destinations(config)
    yield from _tls_problems(config)
    for target in config.notifications:
        for problem in _notification(target):
            yield f"notifications: {target.name!r} {problem}"
    mild, moderate = config.analysis.mild_percent, config.analysis.moderate_percent
    if moderate <= mild:
        yield (
            f"analysis.moderate_percent ({moderate:g}) must be above "
            f"analysis.mild_percent ({mild:g})"
        )


def _duplicate_names(config: Config) -> Iterator[str]:
    for section in ("destinations", "notifications"):
        names = Counter(entry.name for entry in getattr(config, section))
        for name, count in names.items():
            if count > 1:
                yield f"{section}: {count} entries have the name {name!r}; give each its own name"


def _unknown_destinations(config: Config) -> Iterator[str]:
    names = {destination.name for destination in config.destinations}
    for key, name in (
        ("priors.destination", config.priors.destination),
        ("completion.archive", config.completion.archive),
    ):
        if name and name not in names:
            yield f"{key}: no [[destinations]] has the name {name!r}"
    for destination in config.destinations:
        if destination.name == config.priors.destination and destination.profile == "slicer":
            yield (
                f"priors.destination: the reports for {destination.name!r} lack the numbers to "
                'compare (profile = "slicer"): name a destination with another profile'
            )


def _dimse_destination(destination: DestinationConfig) -> Iterator[str]:
    missing = [key for key in ("ae_title", "host", "port") if getattr(destination, key) is None]
    if missing:
        yield f"needs {' and '.join(missing)} (or, for a DICOMweb service, url)"
    for key in _WEB_ONLY:
        if getattr(destination, key):
            yield f"has {key}, which applies only with url: remove it"
    if (destination.ca_file or not destination.match_host) and not destination.tls:
        yield "has ca_file or match_host, but is not called over TLS: add tls = true"


def _web_destination(destination: DestinationConfig) -> Iterator[str]:
    for key in _DIMSE_ONLY:
        if getattr(destination, key) not in (None, False):
            yield f"has url, so {key} does not apply: remove one of the two"
    if destination.token_file and (destination.user or destination.password_file):
        yield "has a token and a password: keep one of the two"
    if bool(destination.user) != bool(destination.password_file):
        yield "needs both user and password_file, or neither"
    url = urlsplit(destination.url or "")
    if url.scheme == "http":
        if destination.ca_file:
            yield "has ca_file, but its url is not https: use an https url"
        secrets = [key for key in _WEB_ONLY if getattr(destination, key)]
        if secrets and url.hostname not in _LOOPBACK:
            yield f"would send {secrets[0]} unencrypted: use an https url"


def _profile_problems(destination: DestinationConfig) -> Iterator[str]:
    if destination.segmentation == "labelmap" and destination.profile != "ohif":
        yield (
            f'has segmentation = "labelmap" and profile = "{destination.profile}", which excludes '
            "label maps: remove one of the two"
        )
    if destination.profile == "plain" and destination.fallback:
        yield (
            'has fallback, but profile = "plain" sends no SEG that could be refused: move its '
            "names to extras"
        )


def _tls_problems(config: Config) -> Iterator[str]:
    """Yield settings that look secure and are not, and peers that are listed twice."""
    tls, security = config.tls, config.security
    for key in ("key_file", "client_ca_file"):
        if getattr(tls, key) and not tls.certificate_file:
            yield f"tls.{key} has no effect without tls.certificate_file: set it to use TLS"
    titles = Counter(security.allowed_calling_ae)
    titles.update(peer.ae_title for peer in security.peers)
    for title, count in titles.items():
        if count > 1:
            yield f"security: the AE title {title!r} is listed {count} times; list it once"


def _notification(target: NotificationConfig) -> Iterator[str]:
    if target.kind == "fhir" and target.patient_id_system is None:
        yield (
            "needs patient_id_system: Patient IDs are unique only within their assigning authority"
        )
    if target.kind == "webhook" and target.secret_file is None:
        yield "needs secret_file: create its content with `openssl rand -base64 32`"
    misplaced = ("secret_file", "identify") if target.kind == "fhir" else ("patient_id_system",)
    for key in misplaced:
        if getattr(target, key):
            yield f'has {key}, which does not apply to kind = "{target.kind}": remove it'
    if (target.token_file or target.ca_file) and not target.url.startswith("https:"):
        yield "has token_file or ca_file, but its url is not https: use an https url"
