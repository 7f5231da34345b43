"""The one configuration file: TOML, every key checked, every mistake named.

Everything but ``[node]`` may be left out. An unknown key is an error that names the key
and the nearest known one, since a misspelt safety setting must not be ignored. The keys
themselves are in :mod:`rales.config.sections`.
"""

from __future__ import annotations

import codecs
import difflib
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from chestct.errors import ConfigError
from rales.audit.target import parse_target
from rales.config.sections import (
    SECTIONS,
    AuditConfig,
    Config,
    DestinationConfig,
    NotificationConfig,
)

_NO_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, lone surrogates, and separators of lines."""
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def load(path: Path) -> Config:
    """Read and check the file at ``path``.

    Relative paths in the file are taken from the folder of the file.

    Raises:
        ConfigError: The file is missing, is not TOML, or says something that cannot be.
            The message names every wrong key, one a line.
    """
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path} {error}") from error
    try:
        raw = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{path} is not valid TOML: brackets are nested too deep") from error
    except ValueError as error:  # also of a number of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return _anchored(parse(raw), path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}:\n{error}") from error


def _decoded(content: bytes) -> str:
    """Return a text in UTF-8, or in UTF-16 that begins with a byte order mark.

    Raises:
        ConfigError: It is in another encoding; the message continues the name of the file.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ConfigError("is in UTF-32: save it as UTF-8")
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not utf16 and b"\0" in content:
        raise ConfigError("is in UTF-16 without a mark, or no text at all: save it as UTF-8")
    try:
        return content.decode("utf-16" if utf16 else "utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        if utf16:
            raise ConfigError("is damaged UTF-16: save it as UTF-8") from error
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"is not in UTF-8: line {line} holds the byte 0x{content[error.start]:02X}, "
            f"which is {content[error.start : error.start + 1].decode('latin-1')!r} in Latin-1: "
            "save it as UTF-8"
        ) from error


def parse(raw: Mapping[str, Any]) -> Config:
    """Check a parsed file.

    Raises:
        ConfigError: As in :func:`load`.
    """
    unprintable = list(_unprintable(raw))
    if unprintable:
        raise ConfigError("\n".join(unprintable))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error))) from error
    for section in ("destinations", "notifications"):
        names = [one.name for one in getattr(config, section)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"  {section}: the name {twice[0]!r} is given twice")
    for one in config.destinations:
        _check_destination(one)
    known = {"", *(one.name for one in config.destinations)}
    for key, name in {
        "priors.destination": config.priors.destination,
        "completion.archive": config.completion.archive,
    }.items():
        if name not in known:
            raise ConfigError(f"  {key}: {name!r} is no name of [[destinations]]")
    _check_tls(config)
    for target in config.notifications:
        _check_notification(target)
    if config.analysis.moderate_percent <= config.analysis.mild_percent:
        raise ConfigError("  analysis.moderate_percent must be above analysis.mild_percent")
    return config


def _unprintable(value: object, where: str = "") -> Iterator[str]:
    """Name every text that holds a control character: no name, host, path or pattern has one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unprintable(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unprintable(inner, f"{where}.{number}")
    elif isinstance(value, str):
        controls = [one for one in value if unicodedata.category(one) in _NO_TEXT]
        if controls:
            yield f"  {where}: holds the character {controls[0]!r}, which is no text"


def _check_destination(one: DestinationConfig) -> None:
    """Refuse a destination that is neither an Application Entity nor a DICOMweb service, or both.

    Raises:
        ConfigError: With what is to be changed.
    """
    where = f"  destinations: {one.name!r}"
    dimse = {"ae_title": one.ae_title, "host": one.host, "port": one.port}
    named = [key for key, value in dimse.items() if value is not None]
    secrets = [key for key in ("token_file", "user", "password_file") if getattr(one, key)]
    if one.url is None:
        missing = [key for key in dimse if key not in named]
        if missing:
            raise ConfigError(f"{where} lacks {' and '.join(missing)} (or a DICOMweb url)")
        if secrets:
            raise ConfigError(f"{where} has {secrets[0]}, which goes with url only")
        return
    unfit = [*named, *(key for key in ("commitment", "compress", "tls") if getattr(one, key))]
    if unfit:
        raise ConfigError(f"{where} has a url: {unfit[0]} goes with ae_title, host and port only")
    if one.token_file and (one.user or one.password_file):
        raise ConfigError(f"{where} has a token and a password; give one")
    if bool(one.user) != bool(one.password_file):
        raise ConfigError(f"{where}: user and password_file go together")
    plain = one.url.startswith("http://")
    if plain and one.ca_file:
        raise ConfigError(f"{where} has a ca_file, but its url is not https")
    if plain and secrets and urlsplit(one.url).hostname not in _THIS_MACHINE:
        raise ConfigError(f"{where} would send {secrets[0]} in the clear: use https")


def _check_tls(config: Config) -> None:
    """Refuse a file that looks secure and is not.

    Raises:
        ConfigError: A key that only means something with TLS stands without it, or a peer is
            named twice.
    """
    tls = config.tls
    if (tls.key_file or tls.client_ca_file) and not tls.certificate_file:
        raise ConfigError("  tls.certificate_file is missing: without it nothing is encrypted")
    for one in config.destinations:
        if one.url is None and (one.ca_file or not one.match_host) and not one.tls:
            raise ConfigError(f"  destinations: {one.name!r} has TLS settings, but no tls = true")
    titles = [*config.security.allowed_calling_ae, *(one.ae_title for one in config.security.peers)]
    for title in titles:
        if titles.count(title) > 1:
            raise ConfigError(f"  security: {title!r} is named twice; name it once")


def _check_notification(one: NotificationConfig) -> None:
    """Refuse what cannot be sent, or only without the care that it asks for.

    Raises:
        ConfigError: A key is missing, or stands where it means nothing.
    """
    where = f"  notifications: {one.name!r}"
    fhir = one.kind == "fhir"
    if fhir and one.patient_id_system is None:
        raise ConfigError(
            f"{where} needs patient_id_system: a Patient ID without the system it is of"
            " may be another patient's"
        )
    if not fhir and one.secret_file is None:
        raise ConfigError(
            f"{where} needs secret_file: `openssl rand -base64 32` makes a key for one"
        )
    for key, misplaced in {
        "secret_file": fhir and one.secret_file,
        "identify": fhir and one.identify,
        "patient_id_system": not fhir and one.patient_id_system,
    }.items():
        if misplaced:
            raise ConfigError(f'{where}: {key} means nothing with kind = "{one.kind}"')
    if (one.token_file or one.ca_file) and not one.url.startswith("https:"):
        raise ConfigError(f"{where} has a token or a CA, but its url is not https")


def _anchored(config: Config, folder: Path) -> Config:
    node = config.node.model_copy(update={"data_dir": folder / config.node.data_dir})
    models_dir = config.analysis.models_dir
    analysis = config.analysis.model_copy(
        update={"models_dir": folder / models_dir if models_dir else None}
    )
    changed = {
        "node": node,
        "analysis": analysis,
        "audit": _anchored_audit(config.audit, folder),
        "tls": config.tls.model_copy(update=_files(config.tls, folder)),
        "destinations": tuple(
            one.model_copy(update=_files(one, folder)) for one in config.destinations
        ),
        "notifications": tuple(
            one.model_copy(update=_files(one, folder)) for one in config.notifications
        ),
    }
    return config.model_copy(update=changed)


def _files(section: BaseModel, folder: Path) -> dict[str, Path]:
    """Return the files that a section names, from ``folder``."""
    return {
        name: folder / value
        for name in type(section).model_fields
        if name.endswith("_file") and (value := getattr(section, name))
    }


def _anchored_audit(audit: AuditConfig, folder: Path) -> AuditConfig:
    target = parse_target(audit.to)
    to = f"file:{folder / target}" if isinstance(target, Path) else audit.to
    return audit.model_copy(update={"to": to} | _files(audit, folder))


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        where = tuple(problem["loc"])
        name = ".".join(str(part) for part in where)
        if problem["type"] == "extra_forbidden":
            yield f"  unknown key {name!r}{_nearest(where)}"
        else:
            yield f"  {name}: {problem['msg'].removeprefix('Value error, ')}"


def _nearest(where: tuple[int | str, ...]) -> str:
    """Suggest the known key that ``where`` most likely meant."""
    section: type[BaseModel] | None = Config
    for part in where[:-1]:
        if isinstance(part, str) and section is not None:
            section = SECTIONS.get(part)
    known = list(section.model_fields) if section else []
    close = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""
