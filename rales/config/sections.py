"""The sections of the configuration file, with their keys, types, bounds and defaults.

Every section is immutable and refuses unknown keys. :mod:`rales.config.file` reads the file;
deploy/rales.toml explains every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from chestct.results import Extra, Profile
from inference.loading.rules import EligibilityRules
from rales.config.values import (
    AeTitle,
    AuditTarget,
    HttpUrl,
    Name,
    NetworkRange,
    Uri,
    WebService,
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeConfig(_Section):
    """The AE title, the address and the data directory of this node."""

    ae_title: AeTitle = "RALES"
    host: str = "0.0.0.0"  # noqa: S104 - peers call it; the firewall and [security] guard it
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    data_dir: Path = Path("var")
    minimum_free_gb: Annotated[float, Field(ge=0)] = 1.0


class DestinationConfig(_Section):
    """A receiver of results: an Application Entity or, with ``url``, a DICOMweb service."""

    name: Name
    ae_title: AeTitle | None = None
    host: str | None = Field(default=None, min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    url: WebService | None = None
    token_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    commitment: bool = False
    tls: bool = False
    ca_file: Path | None = None
    match_host: bool = True
    profile: Literal["ohif", "slicer", "weasis", "plain"] = "ohif"
    segmentation: Literal["binary", "labelmap"] = "binary"
    compress: bool = False
    extras: tuple[Extra, ...] = ()
    fallback: tuple[Extra, ...] = ()

    @property
    def object_profile(self) -> Profile:
        """The profile of its SEGs and its SR."""
        return Profile.LABELMAP if self.segmentation == "labelmap" else Profile(self.profile)

    @property
    def all_extras(self) -> tuple[Extra, ...]:
        """Its extras; a destination without a SEG also gets the page."""
        page = Extra.SECONDARY_CAPTURE
        if self.profile != "plain" or page in self.extras:
            return self.extras
        return (page, *self.extras)


class PeerConfig(_Section):
    """A calling AE title and the addresses from which it may call."""

    ae_title: AeTitle
    addresses: tuple[NetworkRange, ...] = Field(min_length=1)


class SecurityConfig(_Section):
    """The peers that may call. If none is listed, any AE title may call from any address."""

    allowed_calling_ae: tuple[AeTitle, ...] = ()
    peers: tuple[PeerConfig, ...] = ()

    def callers(self) -> dict[str, tuple[str, ...]]:
        """Return the networks of each permitted AE title; no networks means any address."""
        anywhere: dict[str, tuple[str, ...]] = dict.fromkeys(self.allowed_calling_ae, ())
        return anywhere | {peer.ae_title: peer.addresses for peer in self.peers}


class TlsConfig(_Section):
    """The certificate of this node. If it is set, the port accepts TLS only."""

    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None


class CompletionConfig(_Section):
    """When a series counts as complete; docs/operations.md explains the rules."""

    settle_seconds: PositiveFloat = 2.0
    quiet_seconds: PositiveFloat = 30.0
    archive: str = ""
    archive_wait_seconds: PositiveFloat = 120.0
    # At most 15: a stop waits for the answer of the archive, and has 30 seconds.
    archive_timeout_seconds: Annotated[float, Field(gt=0, le=15)] = 5.0


class NetworkConfig(_Section):
    """Limits of the receiver."""

    maximum_associations: PositiveInt = 128
    maximum_associations_per_address: PositiveInt = 96
    maximum_instance_mb: PositiveInt = 1024
    maximum_arriving_mb: PositiveInt = 4096
    maximum_pdu_size: Annotated[int, Field(ge=4096, le=1 << 20)] = 131072
    timeout_seconds: PositiveFloat = 60.0


class AnalysisConfig(_Section):
    """How a series is analysed. Only the models and the thresholds change results."""

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
    page_names_patient: bool = False


class DeliveryConfig(_Section):
    """How often and how long the node tries to deliver a result."""

    first_retry_seconds: PositiveFloat = 5.0
    longest_retry_seconds: PositiveFloat = 600.0
    give_up_after_hours: PositiveFloat = 72.0
    timeout_seconds: PositiveFloat = 30.0
    slowest_kilobytes_per_second: PositiveFloat = 50.0
    commitment_timeout_seconds: PositiveFloat = 3600.0


class PriorsConfig(_Section):
    """Where the node looks for earlier reports of a patient, besides its own data directory."""

    destination: str = ""
    days: PositiveInt = 1095
    # At most 20: a stop waits for the answer of the destination, and has 30 seconds.
    timeout_seconds: Annotated[float, Field(gt=0, le=20)] = 10.0


class NotificationConfig(_Section):
    """A system that is notified when an analysis ends."""

    name: Name
    kind: Literal["webhook", "fhir"]
    url: HttpUrl
    secret_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    identify: bool = False
    patient_id_system: Uri | None = None


class RetentionConfig(_Section):
    """How long delivered images and results are kept, and how many; 0 means no limit."""

    days: Annotated[float, Field(ge=0)] = 0.0
    gigabytes: Annotated[float, Field(ge=0)] = 0.0


class AuditConfig(_Section):
    """The receiver of the audit trail (PS3.15 A.5); the TLS files apply to tls:// only."""

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
    eligibility: EligibilityRules = EligibilityRules()
    analysis: AnalysisConfig = AnalysisConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    priors: PriorsConfig = PriorsConfig()
    notifications: tuple[NotificationConfig, ...] = ()
    retention: RetentionConfig = RetentionConfig()
    audit: AuditConfig = AuditConfig()


SECTIONS: Mapping[str, type[BaseModel]] = {
    "node": NodeConfig,
    "destinations": DestinationConfig,
    "security": SecurityConfig,
    "peers": PeerConfig,
    "tls": TlsConfig,
    "completion": CompletionConfig,
    "network": NetworkConfig,
    "eligibility": EligibilityRules,
    "analysis": AnalysisConfig,
    "delivery": DeliveryConfig,
    "priors": PriorsConfig,
    "notifications": NotificationConfig,
    "retention": RetentionConfig,
    "audit": AuditConfig,
}
"""The sections by their names in the file."""
