"""Every rule explains its outcome, whether it passes or fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chestct.errors import RejectReason, SeriesRejected
from inference.loading.eligibility import evaluate, require_eligible
from inference.loading.headers import SeriesFacts
from inference.loading.rules import EligibilityRules

GOOD = SeriesFacts(
    modality="CT",
    body_part="CHEST",
    series_description="THORAX 1.0 B70F",
    kernel="B70F",
    image_types=(("ORIGINAL", "PRIMARY", "AXIAL"),),
    slices=200,
    thicknesses=(1.0,),
    names=("1.2.3",),
)


def failing(facts: SeriesFacts, rules: EligibilityRules) -> list[tuple[str, RejectReason]]:
    return [(one.rule, one.reason) for one in evaluate(facts, rules) if one.reason is not None]


def test_an_axial_chest_passes_and_every_rule_says_why() -> None:
    outcomes = evaluate(GOOD, EligibilityRules())
    assert [one.reason for one in outcomes] == [None] * len(outcomes)
    assert all(one.explanation for one in outcomes)
    require_eligible(GOOD, EligibilityRules())


@pytest.mark.parametrize(
    ("change", "rules", "rule", "reason"),
    [
        ({"modality": "MR"}, {}, "modality", RejectReason.NOT_CT),
        ({"image_types": (("A", "LOCALIZER"),)}, {}, "localizer", RejectReason.LOCALIZER),
        (
            {"image_types": (("ORIGINAL", "PRIMARY"), ("DERIVED", "PRIMARY", "MIP"))},
            {},
            "derived",
            RejectReason.DERIVED,
        ),
        ({"body_part": "BRAIN"}, {}, "body part", RejectReason.NOT_CHEST),
        (
            {"body_part": ""},
            {"allow_missing_body_part": False},
            "body part",
            RejectReason.NOT_CHEST,
        ),
        (
            {},
            {"series_description_exclude": ("thorax",)},
            "series description",
            RejectReason.EXCLUDED_BY_RULE,
        ),
        (
            {},
            {"series_description_include": ("^lung",)},
            "series description",
            RejectReason.EXCLUDED_BY_RULE,
        ),
        ({}, {"kernel_exclude": ("^b7",)}, "kernel", RejectReason.EXCLUDED_BY_RULE),
        ({}, {"kernel_include": ("^I",)}, "kernel", RejectReason.EXCLUDED_BY_RULE),
        ({"thicknesses": (5.1,)}, {}, "thickness", RejectReason.TOO_THICK),
        ({"slices": 19}, {}, "count", RejectReason.TOO_FEW_SLICES),
    ],
)
def test_each_rule_fails_alone(
    change: dict[str, Any], rules: dict[str, Any], rule: str, reason: RejectReason
) -> None:
    facts = replace(GOOD, **change)
    assert failing(facts, EligibilityRules(**rules)) == [(rule, reason)]
    with pytest.raises(SeriesRejected) as caught:
        require_eligible(facts, EligibilityRules(**rules))
    assert caught.value.reason is reason


@pytest.mark.parametrize("body_part", ["CHEST", "THORAX", "CHESTABDPELVIS", "LUNG", ""])
def test_names_of_the_chest(body_part: str) -> None:
    assert not failing(replace(GOOD, body_part=body_part), EligibilityRules())


@pytest.mark.parametrize(
    "values",
    [
        ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"),
        ("DERIVED", "PRIMARY", "AXIAL"),
        ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"),
        ("DERIVED", "PRIMARY", "AXIAL", "ENERGY_PROP_WT"),
        ("",),
    ],
)
def test_image_types_of_stacks_pass(values: tuple[str, ...]) -> None:
    assert not failing(replace(GOOD, image_types=(values,)), EligibilityRules())


@pytest.mark.parametrize("value", ["VMI", "MAT_REMOVED", "ELECTRON_DENSITY", "SUBTRACTION"])
def test_maps_that_are_not_attenuation_are_rejected(value: str) -> None:
    facts = replace(GOOD, image_types=(("DERIVED", "PRIMARY", "AXIAL", value),))
    assert failing(facts, EligibilityRules()) == [("derived", RejectReason.DERIVED)]


def test_exactly_the_limits_pass() -> None:
    facts = replace(GOOD, thicknesses=(5.0,), slices=20)
    assert not failing(facts, EligibilityRules())
    assert not failing(replace(GOOD, thicknesses=(None,)), EligibilityRules())
