"""Tables of the configuration: every key with its type, limits and default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from chestct.errors import ConfigError
from rales.config.sections import SECTIONS, Config
from rales.conformance.markdown import table

_TYPES = {"string": "text", "boolean": "true or false", "integer": "integer", "number": "number"}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "at least {} character(s)",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
}
_DEFAULT = re.compile(r"\{\{default ([a-z_]+)\.([a-z_]+)(?: ([a-z]+))?\}\}")


def configuration() -> str:
    """Return one table per section."""
    titles = _titles()
    return "\n\n".join(
        f"**{titles.get(section, f'[{name}]')}**: {_summary(section)}\n\n"
        + table(("Key", "Type", "Default"), _keys(section))
        for name, section in SECTIONS.items()
    )


def _titles() -> dict[type[BaseModel], str]:
    """Return how the sections are written of which there may be several."""
    found: dict[type[BaseModel], str] = {}
    parents: list[tuple[str, type[BaseModel]]] = [("", Config), *SECTIONS.items()]
    for parent, section in parents:
        for key, field in section.model_fields.items():
            for inner in get_args(field.annotation):
                if inner in SECTIONS.values():
                    found[inner] = f"[[{parent}.{key}]]" if parent else f"[[{key}]]"
    return found


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _keys(section: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    schema = section.model_json_schema()
    for key, its in schema["properties"].items():
        if _is_table(its.get("items", its), schema):
            continue  # a section of its own
        yield f"`{key}`", _type(its, schema), _default(section, key)


def _is_table(its: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    return "$ref" in its and schema["$defs"][_name(its)].get("type") == "object"


def _name(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def _type(its: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in its:
        return _type(schema["$defs"][_name(its)], schema)
    if "enum" in its:
        return "one of " + ", ".join(f"`{one}`" for one in its["enum"])
    if "anyOf" in its:
        kinds = [_type(one, schema) for one in its["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    limits = [words.format(its[limit]) for limit, words in _LIMITS.items() if limit in its]
    if its["type"] == "array":
        return "; ".join([f"list of {_type(its['items'], schema)}", *limits])
    kind = its["format"] if "format" in its else _TYPES.get(its["type"], its["type"])
    return "; ".join([kind, *limits])


def _default(section: type[BaseModel], key: str) -> str:
    field = section.model_fields[key]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "none" if default is None else f"`{_toml(default)}`"


def _toml(value: object) -> str:
    """Return a value as the configuration file writes it."""
    plain = list(value) if isinstance(value, tuple) else value
    return json.dumps(plain if isinstance(plain, bool | int | float | list) else str(plain))


def with_defaults(text: str) -> str:
    """Put the defaults of the configuration for ``{{default section.key unit}}`` in a text.

    Raises:
        ConfigError: There is no such key.
    """
    return _DEFAULT.sub(lambda found: _lookup(found[1], found[2], found[3]), text)


def _lookup(section: str, key: str, unit: str | None) -> str:
    found = SECTIONS.get(section)
    if found is None or key not in found.model_fields:
        raise ConfigError(f"the text of the statement names {section}.{key}, which is no key")
    default = found.model_fields[key].default
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{shown}{f' {unit}' if unit else ''} (`{section}.{key}`)"
