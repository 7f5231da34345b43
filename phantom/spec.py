"""The specification of a phantom: size, sampling, scanner and lesions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class LesionKind(StrEnum):
    """The density of a lesion."""

    GROUND_GLASS = "ground-glass"
    CONSOLIDATION = "consolidation"


class Kernel(StrEnum):
    """The reconstruction kernel: sharper is noisier."""

    SOFT = "B31f"
    SHARP = "B70f"


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionSpec:
    """One lesion.

    Attributes:
        side: ``left`` or ``right`` lung.
        center: In the bounding box of that lung, 0..1 each: towards the head, towards the
            back, and away from the mediastinum. 0.95 in the last two is subpleural.
        radius_mm: Semi-axes along head, back and side.
    """

    kind: LesionKind
    side: str
    center: tuple[float, float, float]
    radius_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not isinstance(self.kind, LesionKind):
            raise TypeError(f"{self.kind!r} is not a LesionKind")
        if self.side not in ("left", "right"):
            raise ValueError(f"{self.side!r} is neither left nor right")
        if not all(0 <= at <= 1 for at in self.center):
            raise ValueError(f"{self.center} lies outside the lung's box, 0..1")
        if not all(radius > 0 for radius in self.radius_mm):
            raise ValueError(f"radii {self.radius_mm} mm are not all positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSpec:
    """One phantom.

    Attributes:
        shape: Slices, rows, columns.
        slice_spacing_mm, pixel_spacing_mm: Voxel size.
        first_slice_mm: Height of the lowest slice above the middle of the lungs, mm.
        lesions: In the order in which they are painted.
        noise_hu: Standard deviation of the noise before the kernel.
        seed: Decides the patient (sizes, vessels, textures) and the noise.
    """

    shape: tuple[int, int, int] = (100, 512, 512)
    slice_spacing_mm: float = 3.0
    pixel_spacing_mm: float = 0.74
    first_slice_mm: float = -160.0
    lesions: tuple[LesionSpec, ...] = ()
    noise_hu: float = 22.0
    kernel: Kernel = Kernel.SHARP
    seed: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.kernel, Kernel):
            raise TypeError(f"{self.kernel!r} is not a Kernel")


def sample_spec() -> PhantomSpec:
    """Return the sample series: both kinds of lesion, in both lungs, mostly basal and posterior."""
    return PhantomSpec(
        lesions=(
            LesionSpec(
                kind=LesionKind.GROUND_GLASS,
                side="right",
                center=(0.35, 0.85, 0.7),
                radius_mm=(34, 24, 30),
            ),
            LesionSpec(
                kind=LesionKind.CONSOLIDATION,
                side="right",
                center=(0.22, 0.93, 0.45),
                radius_mm=(20, 14, 24),
            ),
            LesionSpec(
                kind=LesionKind.GROUND_GLASS,
                side="left",
                center=(0.55, 0.8, 0.85),
                radius_mm=(26, 24, 16),
            ),
            LesionSpec(
                kind=LesionKind.CONSOLIDATION,
                side="left",
                center=(0.25, 0.95, 0.5),
                radius_mm=(22, 13, 22),
            ),
        )
    )


def healthy_spec() -> PhantomSpec:
    """Return the sample series without its lesions."""
    return replace(sample_spec(), lesions=())


def small_spec(**changes: Any) -> PhantomSpec:
    """Return a small phantom for tests: 60 slices of 5 mm, 224 by 224 pixels.

    Keyword arguments replace fields; by default it carries one lesion of each kind.
    """
    spec = PhantomSpec(
        shape=(60, 224, 224),
        slice_spacing_mm=5.0,
        pixel_spacing_mm=1.68,
        noise_hu=12.0,
        kernel=Kernel.SOFT,
        lesions=(
            LesionSpec(
                kind=LesionKind.GROUND_GLASS,
                side="right",
                center=(0.4, 0.8, 0.6),
                radius_mm=(34, 26, 30),
            ),
            LesionSpec(
                kind=LesionKind.CONSOLIDATION,
                side="left",
                center=(0.25, 0.9, 0.5),
                radius_mm=(24, 18, 24),
            ),
        ),
    )
    return replace(spec, **changes)
