"""The sections of the configuration file, each with its keys, defaults and checks.

Every section is frozen and refuses unknown keys; :mod:`rales.config.file` reads the file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
)

from chestct.findings import Method
from chestct.results import Extra, ReportOptions, SegKind
from rales.audit.target import parse_target

_AE_TITLE_LENGTH = 16


def _ae_title(value: str) -> str:
    """Check the AE value representation (PS3.5 table 6.2-1)."""
    title = value.strip(" ")
    if not title or len(title) > _AE_TITLE_LENGTH:
        raise ValueError("an AE title has 1 to 16 characters")
    if "\\" in title or not title.isascii() or not title.isprintable():
        raise ValueError("an AE title is printable ASCII without a backslash")
    return title


def _pattern(value: str) -> str:
    """Check that ``value`` is a regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


def _audit_target(value: str) -> str:
    """Check that ``value`` says where audit messages go."""
    parse_target(value)
    return value


def _network(value: str) -> str:
    """Check that ``value`` is an address or a range of addresses."""
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; write 192.0.2.17, 192.0.2.0/24 or fd00::/8") from error
    return value


def _web_url(value: str) -> str:
    """Check that ``value`` is the URL of a service, without what belongs into a file."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write https://host/path, the URL before /studies")
    if parts.username or parts.password:
        raise ValueError("a password does not belong into the URL: use user and password_file")
    if parts.query or parts.fragment:
        raise ValueError("a service's URL has no query and no fragment")
    return value.rstrip("/")


def _http_url(value: str) -> str:
    """Check that ``value`` says where to POST to."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write it as https://HOST/PATH")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("no user, password or fragment; credentials go into token_file")
    return value


def _uri(value: str) -> str:
    """Check that ``value`` is an absolute URI, as FHIR asks for in Identifier.system."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|]+", value):
        raise ValueError("an absolute URI, such as urn:oid:2.16.840.1.113883.19.5")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Uri = Annotated[str, AfterValidator(_uri)]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Pattern = Annotated[str, AfterValidator(_pattern)]
NetworkRange = Annotated[str, AfterValidator(_network)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
AuditTarget = Annotated[str, AfterValidator(_audit_target)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    """A table of the file: frozen, and nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeConfig(_Section):
    """Who this node is and where it keeps its data."""

    ae_title: AeTitle = "RALES"
    host: str = "0.0.0.0"  # noqa: S104 - a hospital node listens; the firewall and the AE list guard
    port: Port = 11112
    data_dir: Path = Path("var")
    minimum_free_gb: Annotated[float, Field(ge=0)] = 1.0


class DestinationConfig(_Section):
    """One Application Entity, or with ``url`` one DICOMweb service, that gets the results."""

    name: str = Field(min_length=1, max_length=64)
    ae_title: AeTitle | None = None
    host: str | None = Field(default=None, min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    url: WebUrl | None = None
    token_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    commitment: bool = False
    tls: bool = False
    ca_file: Path | None = None
    match_host: bool = True
    segmentation: SegKind = SegKind.BINARY
    compress: bool = False
    extras: tuple[Extra, ...] = ()
    fallback: tuple[Extra, ...] = ()


class PeerConfig(_Section):
    """A calling AE title, and the addresses that it may call from."""

    ae_title: AeTitle
    addresses: tuple[NetworkRange, ...] = Field(min_length=1)


class SecurityConfig(_Section):
    """Who may send. Without titles and peers, any calling AE title from anywhere."""

    allowed_calling_ae: tuple[AeTitle, ...] = ()
    peers: tuple[PeerConfig, ...] = ()

    def callers(self) -> dict[str, tuple[str, ...]]:
        """Return who may call, each with the networks it may call from (none: any)."""
        anywhere: dict[str, tuple[str, ...]] = dict.fromkeys(self.allowed_calling_ae, ())
        return anywhere | {one.ae_title: one.addresses for one in self.peers}


class TlsConfig(_Section):
    """The certificate of this node; with one, its port speaks TLS only."""

    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None


class CompletionConfig(_Section):
    """When a series counts as complete (see docs/operations.md)."""

    settle_seconds: PositiveFloat = 2.0
    quiet_seconds: PositiveFloat = 30.0
    archive: str = ""
    archive_wait_seconds: PositiveFloat = 120.0
    archive_timeout_seconds: Annotated[float, Field(gt=0, le=15)] = 5.0
    """At most 15: a stop waits for it, and has 30."""


class NetworkConfig(_Section):
    """Limits of the listening side."""

    maximum_associations: PositiveInt = 128
    maximum_associations_per_address: PositiveInt = 96
    maximum_instance_mb: PositiveInt = 1024
    maximum_arriving_mb: PositiveInt = 4096
    maximum_pdu_size: Annotated[int, Field(ge=4096, le=1 << 20)] = 131072
    timeout_seconds: PositiveFloat = 60.0


class EligibilityConfig(_Section):
    """Which series are analysed. Patterns are case-insensitive regular expressions."""

    body_parts: tuple[str, ...] = ("CHEST", "THORAX", "LUNG")
    allow_missing_body_part: bool = True
    series_description_include: tuple[Pattern, ...] = ()
    series_description_exclude: tuple[Pattern, ...] = ()
    kernel_include: tuple[Pattern, ...] = ()
    kernel_exclude: tuple[Pattern, ...] = ()
    maximum_thickness_mm: PositiveFloat = 5.0
    minimum_slices: PositiveInt = 20


class AnalysisConfig(_Section):
    """How a series is analysed; thresholds and models change results, the rest does not."""

    models_dir: Path | None = None
    providers: tuple[str, ...] = ("TensorRT", "CUDA", "CPU")
    threads: Annotated[int, Field(ge=0)] = 0
    workers: PositiveInt = 1
    attempts: PositiveInt = 3
    time_limit_seconds: PositiveFloat = 900.0
    memory_limit_gb: Annotated[float, Field(ge=0)] = 8.0
    high_opacity_hu: float = -300.0
    minimum_lesion_ml: Annotated[float, Field(ge=0)] | None = None
    mild_percent: PositiveFloat = 5.0
    moderate_percent: PositiveFloat = 25.0
    measured_lesions: Annotated[int, Field(ge=0, le=100)] = 5
    lesion_segments: bool = False

    def options(self) -> ReportOptions:
        """Return what the results tell of single lesions."""
        return ReportOptions(
            measured_lesions=self.measured_lesions, lesion_segments=self.lesion_segments
        )

    def method(self) -> Method:
        """Return the thresholds as the domain knows them.

        What the file does not say of the smallest lesion, the lesion model's manifest says.
        """
        return Method(
            high_opacity_hu=self.high_opacity_hu,
            mild_percent=self.mild_percent,
            moderate_percent=self.moderate_percent,
        )


class DeliveryConfig(_Section):
    """How often and how long a destination is tried."""

    first_retry_seconds: PositiveFloat = 5.0
    longest_retry_seconds: PositiveFloat = 600.0
    give_up_after_hours: PositiveFloat = 72.0
    timeout_seconds: PositiveFloat = 30.0
    slowest_kilobytes_per_second: PositiveFloat = 50.0
    commitment_timeout_seconds: PositiveFloat = 3600.0


class PriorsConfig(_Section):
    """Where else than here earlier reports of a patient are looked for."""

    destination: str = ""
    days: PositiveInt = 1095
    timeout_seconds: Annotated[float, Field(gt=0, le=20)] = 10.0
    """At most 20: a stop waits for it, and has 30."""


class NotificationConfig(_Section):
    """One system that is told what became of a series."""

    name: str = Field(min_length=1, max_length=64)
    kind: Literal["webhook", "fhir"]
    url: HttpUrl
    secret_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    identify: bool = False
    patient_id_system: Uri | None = None


class RetentionConfig(_Section):
    """How long, and how much of, what was delivered is kept; 0: no limit."""

    days: Annotated[float, Field(ge=0)] = 0.0
    gigabytes: Annotated[float, Field(ge=0)] = 0.0


class AuditConfig(_Section):
    """Where the audit trail goes (PS3.15 annex A.5); the TLS files are for tls:// only."""

    to: AuditTarget = "off"
    site: str = Field(default="", max_length=64)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class Config(_Section):
    """The whole file."""

    node: NodeConfig = NodeConfig()
    destinations: tuple[DestinationConfig, ...] = ()
    security: SecurityConfig = SecurityConfig()
    tls: TlsConfig = TlsConfig()
    completion: CompletionConfig = CompletionConfig()
    network: NetworkConfig = NetworkConfig()
    eligibility: EligibilityConfig = EligibilityConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    priors: PriorsConfig = PriorsConfig()
    notifications: tuple[NotificationConfig, ...] = ()
    retention: RetentionConfig = RetentionConfig()
    audit: AuditConfig = AuditConfig()


# By the name that the file gives them.
SECTIONS: Mapping[str, type[BaseModel]] = {
    "node": NodeConfig,
    "destinations": DestinationConfig,
    "security": SecurityConfig,
    "peers": PeerConfig,
    "tls": TlsConfig,
    "completion": CompletionConfig,
    "network": NetworkConfig,
    "eligibility": EligibilityConfig,
    "analysis": AnalysisConfig,
    "delivery": DeliveryConfig,
    "priors": PriorsConfig,
    "notifications": NotificationConfig,
    "retention": RetentionConfig,
    "audit": AuditConfig,
}
