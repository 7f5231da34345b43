"""Read the configuration file: TOML, with every key checked.

A file may omit every key. An unknown key is an error that suggests the nearest known key: the
node must not ignore a misspelt safety setting. :mod:`rales.config.sections` has the keys.
"""

from __future__ import annotations

import codecs
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from chestct.errors import ConfigError
from rales.audit.target import parse_target
from rales.config.checks import problems
from rales.config.sections import SECTIONS, AuditConfig, Config

_Section = TypeVar("_Section", bound=BaseModel)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, lone surrogates and line separators."""


def load(path: Path) -> Config:
    """Read and check a configuration file; its relative paths start at its directory.

    Raises:
        ConfigError: The file is missing, is not TOML, or has wrong keys or values. The message
            names each of them on a line of its own.
    """
    try:
        text = _decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path} {error}") from error
    try:
        raw = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{path} is not valid TOML: brackets are nested too deep") from error
    except ValueError as error:  # includes an integer of more than 4300 digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return _resolve(parse(raw), path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}:\n{error}") from error


def _decode(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark.

    Raises:
        ConfigError: The encoding is another one; the message continues the name of the file.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ConfigError("is UTF-32: save it as UTF-8")
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not utf16 and b"\0" in content:
        raise ConfigError("is UTF-16 without a byte order mark, or no text: save it as UTF-8")
    try:
        return content.decode("utf-16" if utf16 else "utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        if utf16:
            raise ConfigError("is damaged UTF-16: save it as UTF-8") from error
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start : error.start + 1]
        raise ConfigError(
            f"is not UTF-8: line {line} has the byte 0x{byte[0]:02X}, which is "
            f"{byte.decode('latin-1')!r} in Latin-1: save it as UTF-8"
        ) from error


def parse(raw: Mapping[str, Any]) -> Config:
    """Check the content of a configuration file.

    Raises:
        ConfigError: A key or a value is wrong; the message has a line for each.
    """
    unprintable = list(_unprintable(raw))
    if unprintable:
        raise ConfigError("\n".join(f"  {problem}" for problem in unprintable))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"  {problem}" for problem in _explain(error))) from error
    if found := list(problems(config)):
        raise ConfigError("\n".join(f"  {problem}" for problem in found))
    return config


def _unprintable(value: object, where: str = "") -> Iterator[str]:
    """Name every text with an unprintable character: no name, host, path or pattern has one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unprintable(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unprintable(inner, f"{where}.{number}")
    elif isinstance(value, str):
        for character in value:
            if unicodedata.category(character) in _UNPRINTABLE:
                yield f"{where}: remove the unprintable character {character!r}"
                return


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        where = tuple(problem["loc"])
        name = ".".join(str(part) for part in where)
        if problem["type"] == "extra_forbidden":
            yield f"unknown key {name!r}{_suggestion(where)}"
        else:
            yield f"{name}: {problem['msg'].removeprefix('Value error, ')}"


def _suggestion(where: tuple[int | str, ...]) -> str:
    """Suggest the known key that an unknown key most likely means."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a wrong file

    section: type[BaseModel] | None = Config
    for part in where[:-1]:
        if isinstance(part, str) and section is not None:
            section = SECTIONS.get(part)
    known = list(section.model_fields) if section else []
    close = get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; the known keys are {', '.join(known)}" if known else ""


def _resolve(config: Config, directory: Path) -> Config:
    """Make the relative paths of the file absolute."""
    models_dir = config.analysis.models_dir
    return config.model_copy(
        update={
            "node": config.node.model_copy(update={"data_dir": directory / config.node.data_dir}),
            "analysis": config.analysis.model_copy(
                update={"models_dir": directory / models_dir if models_dir else None}
            ),
            "audit": _resolve_audit(config.audit, directory),
            "tls": _resolve_files(config.tls, directory),
            "destinations": tuple(_resolve_files(it, directory) for it in config.destinations),
            "notifications": tuple(_resolve_files(it, directory) for it in config.notifications),
        }
    )


def _resolve_files(section: _Section, directory: Path) -> _Section:
    """Make the keys that end in ``_file`` absolute."""
    files = {
        name: directory / value
        for name in type(section).model_fields
        if name.endswith("_file") and (value := getattr(section, name))
    }
    return section.model_copy(update=files)


def _resolve_audit(audit: AuditConfig, directory: Path) -> AuditConfig:
    target = parse_target(audit.to)
    to = f"file:{directory / target}" if isinstance(target, Path) else audit.to
    return _resolve_files(audit, directory).model_copy(update={"to": to})
