"""The eligibility rules: which series are analysed, by their headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from chestct.errors import RejectReason, SeriesRejected
from inference.loading.headers import SeriesFacts
from inference.loading.rejections import naming_images
from inference.loading.rules import EligibilityRules

LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"})
"""Values of Image Type of a localizer, which is not a slice of a stack."""
_REFORMATTED = frozenset(
    {"MPR", "MIP", "MINIP", "MAXIMUM", "MINIMUM", "PROJECTION", "REFORMATTED", "VRT", "CPR"}
)
"""Words of Image Type for images computed from other images (PS3.3 C.8.16.1.4 and vendors)."""
_OTHER_VALUES = frozenset(
    {
        # of multi-energy CT (PS3.3 C.8.2.1.1.1): HU of one energy or without a material, or no HU
        *("VMI", "MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "MAT_MODIFIED"),
        *("MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY"),
        # Derived Pixel Contrast (PS3.3 C.8.16.1.4)
        *("ADDITION", "SUBTRACTION", "DIVISION", "MULTIPLICATION", "STD_DEVIATION"),
        *("MASKED", "QUANTITY"),
        # Volume Based Calculation Technique and Volumetric Properties (PS3.3 C.8.16.2)
        *("MAX_IP", "MIN_IP", "CURVED_MPR", "VOLUME_RENDER", "SURFACE_RENDER", "DISTORTED"),
    }
)
"""Values of Image Type whose pixels are not the attenuation at their position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """The outcome of one rule for a series; ``reason`` is None when the rule passes."""

    rule: str
    reason: RejectReason | None
    explanation: str


def evaluate(facts: SeriesFacts, rules: EligibilityRules) -> tuple[RuleOutcome, ...]:
    """Apply every rule, in order."""
    return tuple(
        RuleOutcome(rule=name, reason=None if passed else reason, explanation=explanation)
        for name, reason, check in _RULES
        for passed, explanation in [check(facts, rules)]
    )


def require_eligible(facts: SeriesFacts, rules: EligibilityRules) -> None:
    """Reject a series that is not eligible.

    Raises:
        SeriesRejected: A rule fails; the first such rule gives reason and message.
    """
    for outcome in evaluate(facts, rules):
        if outcome.reason is not None:
            raise SeriesRejected(outcome.reason, outcome.explanation)


Check = tuple[bool, str]


def _modality(facts: SeriesFacts, _: EligibilityRules) -> Check:
    return facts.modality == "CT", f"Modality is {facts.modality or 'missing'}"


def _localizer(facts: SeriesFacts, _: EligibilityRules) -> Check:
    return _image_types(facts, lambda values: bool(LOCALIZERS & set(values)))


def _derived(facts: SeriesFacts, _: EligibilityRules) -> Check:
    return _image_types(facts, is_derived)


def is_derived(values: tuple[str, ...]) -> bool:
    """Return whether Image Type describes a reformat, a projection or a map.

    Such an image is SECONDARY, or its Image Type names the computation. DERIVED alone does not
    count: filtered images and images joined from two energies are DERIVED too.
    """
    words = set(re.split(r"[^A-Z]+", " ".join(values)))
    return values[1:2] == ("SECONDARY",) or bool(
        _REFORMATTED & words or _OTHER_VALUES & set(values)
    )


def _image_types(facts: SeriesFacts, wrong: Callable[[tuple[str, ...]], bool]) -> Check:
    """Check Image Type of every image: a single wrong image fails the rule."""
    places = [place for place, values in enumerate(facts.image_types) if wrong(values)]
    shown = "\\".join(facts.image_types[places[0] if places else 0])[:64]
    return not places, _naming(facts, places, f"Image Type is {shown or 'missing'}")


def _naming(facts: SeriesFacts, places: list[int], message: str) -> str:
    """Name the images that fail a rule, unless all of them do."""
    if not 0 < len(places) < len(facts.names):
        return message
    return naming_images(len(places), len(facts.names), facts.names[places[0]], message)


def _body_part(facts: SeriesFacts, rules: EligibilityRules) -> Check:
    if not facts.body_part:
        return rules.allow_missing_body_part, "Body Part Examined is missing"
    fits = any(part.upper() in facts.body_part for part in rules.body_parts)
    accepted = ", ".join(rules.body_parts)
    return fits, f"Body Part Examined is {facts.body_part[:16]}, accepted are {accepted}"


def _patterns(text: str, include: tuple[str, ...], exclude: tuple[str, ...], name: str) -> Check:
    for pattern in exclude:
        if re.search(pattern, text, re.IGNORECASE):
            return False, f"{name} matches the exclude pattern {pattern!r}"
    if include and not any(re.search(pattern, text, re.IGNORECASE) for pattern in include):
        return False, f"{name} matches none of the {len(include)} include patterns"
    return True, f"{name} is not excluded"


def _description(facts: SeriesFacts, rules: EligibilityRules) -> Check:
    return _patterns(
        facts.series_description,
        rules.series_description_include,
        rules.series_description_exclude,
        "Series Description",
    )


def _kernel(facts: SeriesFacts, rules: EligibilityRules) -> Check:
    return _patterns(facts.kernel, rules.kernel_include, rules.kernel_exclude, "Convolution Kernel")


def _thickness(facts: SeriesFacts, rules: EligibilityRules) -> Check:
    known = {place: mm for place, mm in enumerate(facts.thicknesses) if mm is not None}
    if not known:
        return True, "Slice Thickness is missing; the distance between slices is checked instead"
    thickness, most = max(known.values()), rules.maximum_thickness_mm
    thick = [place for place, mm in known.items() if mm > most + 1e-3]
    explanation = f"Slice Thickness is up to {thickness:g} mm, at most {most:g} mm is analysed"
    return not thick, _naming(facts, thick, explanation)


def _count(facts: SeriesFacts, rules: EligibilityRules) -> Check:
    return (
        facts.slices >= rules.minimum_slices,
        f"{facts.slices} slices, at least {rules.minimum_slices} are needed",
    )


_RULES: tuple[tuple[str, RejectReason, Callable[[SeriesFacts, EligibilityRules], Check]], ...] = (
    ("modality", RejectReason.NOT_CT, _modality),
    ("localizer", RejectReason.LOCALIZER, _localizer),
    ("derived", RejectReason.DERIVED, _derived),
    ("body part", RejectReason.NOT_CHEST, _body_part),
    ("series description", RejectReason.EXCLUDED_BY_RULE, _description),
    ("kernel", RejectReason.EXCLUDED_BY_RULE, _kernel),
    ("thickness", RejectReason.TOO_THICK, _thickness),
    ("count", RejectReason.TOO_FEW_SLICES, _count),
)
