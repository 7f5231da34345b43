"""The configuration: every key with its type, limits and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from conformance.markdown import table
from rales.config.sections import SECTIONS, Config

_TYPES = {"string": "text", "boolean": "true or false"}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "at least {} character(s)",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
}


def defaults() -> dict[str, str]:
    """Return the default of every key, as a sentence states it, by ``section.key``."""
    return {
        f"{name}.{key}": f"{field.default:g}"
        if isinstance(field.default, float)
        else str(field.default)
        for name, section in SECTIONS.items()
        for key, field in section.model_fields.items()
    }


def configuration() -> str:
    """Return one table per section."""
    repeated = _repeated()
    return "\n\n".join(
        f"**{repeated.get(section, f'[{name}]')}**: {_summary(section)}\n\n"
        + table(("Key", "Type", "Default"), _keys(section))
        for name, section in SECTIONS.items()
    )


def _repeated() -> dict[type[BaseModel], str]:
    """Return the headings of the sections that a file may have several times."""
    parents: dict[str, type[BaseModel]] = {"": Config, **SECTIONS}
    return {
        inner: f"[[{parent}.{key}]]" if parent else f"[[{key}]]"
        for parent, section in parents.items()
        for key, field in section.model_fields.items()
        for inner in get_args(field.annotation)
        if inner in SECTIONS.values()
    }


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _keys(section: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    schema = section.model_json_schema()
    for key, field in section.model_fields.items():
        kind = _type(schema["properties"][key], schema.get("$defs", {}))
        default = field.get_default(call_default_factory=True)
        shown = (
            "required"
            if field.is_required()
            else "none"
            if default is None
            else f"`{_toml(default)}`"
        )
        if kind:
            yield f"`{key}`", kind, shown


def _type(kind: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the type in words; empty for a section of its own."""
    if "$ref" in kind:
        return _type(definitions[kind["$ref"].rsplit("/", 1)[-1]], definitions)
    if "enum" in kind:
        return "one of " + ", ".join(f"`{value}`" for value in kind["enum"])
    if "anyOf" in kind:
        kinds = [
            _type(option, definitions) for option in kind["anyOf"] if option.get("type") != "null"
        ]
        return " or ".join(kinds)
    name = kind.get("format") or _TYPES.get(kind["type"], kind["type"])
    if name == "array":
        items = _type(kind["items"], definitions)
        name = f"list of {items}" if items else ""
    limits = [words.format(kind[limit]) for limit, words in _LIMITS.items() if limit in kind]
    return "" if name in ("", "object") else "; ".join([name, *limits])


def _toml(value: object) -> str:
    """Return a value as the configuration file writes it."""
    plain = list(value) if isinstance(value, tuple) else value
    return json.dumps(plain if isinstance(plain, bool | int | float | list) else str(plain))
