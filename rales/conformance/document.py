"""The statement: written text with tables from the code in it.

The text stands in ``text/``, in the order of the file names, after the template of PS3.2
annex N. ``{{name}}`` in it is a table of :data:`PARTS`; ``{{default section.key unit}}`` is
the default of a key of the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from types import MappingProxyType

from chestct.errors import ConfigError
from rales.conformance import coding, network, objects, reports, settings, web
from rales.conformance.markdown import contents
from rales.conformance.samples import Sample, make_samples

_PLACE = re.compile(r"\{\{([a-z_]+)\}\}")
_CONTENTS = "contents"

PARTS: Mapping[str, Callable[[Sequence[Sample]], str]] = MappingProxyType(
    {
        "version": lambda _: version("rales"),
        "overview": network.overview,
        "general_parameters": lambda _: network.general_parameters(),
        "accepted_contexts": lambda _: network.accepted_contexts(),
        "proposed_contexts": network.proposed_contexts,
        "store_statuses": lambda _: network.store_statuses(),
        "delivery_statuses": lambda _: network.delivery_statuses(),
        "commitment_reasons": lambda _: network.commitment_reasons(),
        "report_statuses": lambda _: network.report_statuses(),
        "stow_statuses": lambda _: web.stow_statuses(),
        "reject_reasons": lambda _: network.reject_reasons(),
        "configuration": lambda _: settings.configuration(),
        "information_objects": objects.information_objects,
        "private_attributes": objects.private_attributes,
        "content_trees": reports.content_trees,
        "standard_codes": coding.standard_codes,
        "private_codes": lambda _: coding.private_codes(),
    }
)


def template() -> str:
    """Return the written text with its places."""
    folder = files("rales.conformance") / "text"
    names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".md"))
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def statement() -> str:
    """Return the statement in Markdown; the same code gives the same text.

    Raises:
        ConfigError: The written text names a table or a key that there is not.
    """
    text = settings.with_defaults(template())
    samples = make_samples()
    document = _PLACE.sub(lambda found: _part(found, samples), text)
    return document.replace(f"{{{{{_CONTENTS}}}}}", contents(document))


def _part(found: re.Match[str], samples: Sequence[Sample]) -> str:
    if found[1] == _CONTENTS:
        return found[0]
    if found[1] not in PARTS:
        raise ConfigError(f"the text of the statement names {found[1]!r}, which is no table")
    return PARTS[found[1]](samples)
