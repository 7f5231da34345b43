"""The statement: ``statement.md`` with the tables and limits of the code filled in.

The text follows the template of PS3.2 annex N. ``$name`` stands for a table, a limit or, as
``$section.key``, for the default of a key of the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template

from conformance import network, objects, reports, settings
from conformance.markdown import anchor
from conformance.observed import SampleResults, by_class

TEMPLATE = Path(__file__).with_name("statement.md")
_HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)


class Text(Template):
    """A template that knows ``$section.key`` beside ``$name``."""

    idpattern = r"[a-z_]+(?:\.[a-z_]+)?"


def statement(filled: Mapping[str, str]) -> str:
    """Return the statement in Markdown; the same code gives the same text.

    Raises:
        KeyError: The template names a value that does not exist.
    """
    text = Text(TEMPLATE.read_text(encoding="utf-8"))
    document = text.substitute(filled, contents="$contents")
    contents = "\n".join(
        f"{'  ' * (len(marks) - 2)}- [{title}](#{anchor(title)})"
        for marks, title in _HEADING.findall(document)
    )
    return document.replace("$contents", contents)


def values(samples: Sequence[SampleResults]) -> dict[str, str]:
    """Return what may stand in the template, by name."""
    return {
        "version": version("rales"),
        **settings.defaults(),
        **network.limits(),
        **network.tables(by_class(samples)),
        "configuration": settings.configuration(),
        "information_objects": objects.information_objects(samples),
        "content_trees": reports.content_trees(samples),
        "standard_codes": reports.standard_codes(samples),
        "private_codes": reports.private_codes(),
    }
