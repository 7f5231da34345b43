"""Types for the values of the configuration file, each with its check."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field

from chestct.ae_title import check_ae_title
from rales.audit.target import parse_target


def _audit_target(value: str) -> str:
    parse_target(value)
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(
            f"{error}; write an address or a network: 192.0.2.17, 192.0.2.0/24 or fd00::/8"
        ) from error
    return value


def _http_parts(value: str) -> SplitResult:
    """Split an HTTP URL; a password in it would be shown in messages and logs."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{value!r} is not an HTTP URL: write https://host/path")
    if parts.username or parts.password:
        raise ValueError("remove the user and the password from the URL: keep them in files")
    if parts.fragment:
        raise ValueError(f"remove the fragment #{parts.fragment} from the URL")
    return parts


def _http_url(value: str) -> str:
    _http_parts(value)
    return value


def _web_service(value: str) -> str:
    """Check the base URL of a DICOMweb service."""
    if query := _http_parts(value).query:
        raise ValueError(f"remove the query ?{query} from the URL: write the part before /studies")
    return value.rstrip("/")


def _uri(value: str) -> str:
    """Check an absolute URI, as Identifier.system of FHIR requires it."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|]+", value):
        raise ValueError(
            f"{value!r} is not an absolute URI; write, for example, urn:oid:2.16.840.1.113883.19.5"
        )
    return value


AeTitle = Annotated[str, AfterValidator(check_ae_title)]
AuditTarget = Annotated[str, AfterValidator(_audit_target)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
NetworkRange = Annotated[str, AfterValidator(_network)]
Uri = Annotated[str, AfterValidator(_uri)]
WebService = Annotated[str, AfterValidator(_web_service)]
