"""The eligibility rules: which series are analysed. They are also [eligibility] of the node."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, PositiveFloat, PositiveInt


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from error
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


class EligibilityRules(BaseModel):
    """Which series are analysed. Patterns are case-insensitive regular expressions.

    A pattern matches anywhere in the text. An empty include list includes every series.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_parts: tuple[str, ...] = ("CHEST", "THORAX", "LUNG")
    allow_missing_body_part: bool = True
    series_description_include: tuple[Pattern, ...] = ()
    series_description_exclude: tuple[Pattern, ...] = ()
    kernel_include: tuple[Pattern, ...] = ()
    kernel_exclude: tuple[Pattern, ...] = ()
    maximum_thickness_mm: PositiveFloat = 5.0
    minimum_slices: PositiveInt = 20
