"""Draws the opacities of a patient: several usual ones, or a scene that is rare by chance."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from training.opacities import Opacity, Spacing, Texture, draw_opacities, draw_radius


class Scene(StrEnum):
    """A kind of disease."""

    USUAL = "usual"
    """One to nine opacities of any texture; one scan in four is diffuse."""
    PLEURAL = "pleural"
    """One to four small opacities, most of them solid, at pleura or fissure."""
    NODULES = "nodules"
    """Six to nineteen small nodules."""
    LOBE = "lobe"
    """A consolidated lobe."""
    LUNG = "lung"
    """A consolidated lung."""
    SOLID = "solid"
    """One small consolidation; drawn only where the caller names it."""


SHARES = {
    Scene.USUAL: 0.4,
    Scene.PLEURAL: 0.2,
    Scene.NODULES: 0.1,
    Scene.LOBE: 0.24,
    Scene.LUNG: 0.06,
}
"""Part of the patients with each scene, where the caller names none."""


def draw_scene(
    depth: NDArray[np.float32],
    lungs: NDArray[np.uint8],
    spacing: Spacing,
    random: np.random.Generator,
    scene: Scene | None = None,
) -> list[tuple[Opacity, NDArray[np.float32]]]:
    """Draw the opacities of a patient, each with the pleural depth of the lungs that it may fill.

    Usual opacities hardly ever are small and solid at the pleura, many nodules, or a lobe or lung
    without air: without a ``scene`` most of the patients have one of these. A quarter have a
    consolidated lobe: at a base it looks like abdomen, and networks that saw few called it so.

    Args:
        depth: float32 mm, positive inside the lungs.
        lungs: uint8, likewise: the side of each voxel.
        spacing: mm.
        random: Decides everything else.
        scene: What the patient has; None: ``random`` decides.
    """
    if scene is None:
        scene = tuple(SHARES)[int(random.choice(len(SHARES), p=list(SHARES.values())))]
    if scene is Scene.USUAL:
        return [(opacity, depth) for opacity in draw_opacities(depth, spacing, random)]
    if scene is Scene.SOLID:
        return [(_draw_solid(depth, random), depth)]
    if scene in (Scene.PLEURAL, Scene.NODULES):
        at_pleura = scene is Scene.PLEURAL
        count = int(random.integers(1, 5) if at_pleura else random.integers(6, 20))
        return [(_draw_small(depth, random, at_pleura=at_pleura), depth) for _ in range(count)]
    side = random.choice(np.unique(lungs[depth > 0]))
    own = np.where(lungs == side, depth, np.float32(0))
    return [(_draw_airless(own, random, whole=scene is Scene.LUNG), own)]


def _draw_small(
    depth: NDArray[np.float32],
    random: np.random.Generator,
    *,
    at_pleura: bool,
) -> Opacity:
    """Draw an opacity of about 0.5 to 25 ml: at the surface of the lungs, or a nodule."""
    near = depth[:, ::2, ::2] > 0
    if at_pleura:
        near &= depth[:, ::2, ::2] < 5
    places = np.argwhere(near) * (1, 2, 2)
    place = places[random.integers(len(places))]
    size = random.uniform(7, 20) if at_pleura else random.uniform(5, 11)
    solid = random.random() < (0.75 if at_pleura else 0.4)
    return Opacity(
        texture=Texture.CONSOLIDATION if solid else Texture.GROUND_GLASS,
        center=(int(place[0]), int(place[1]), int(place[2])),
        radii_mm=(draw_radius(size, random), draw_radius(size, random), draw_radius(size, random)),
        crescent_mm=None,
        density_hu=float(random.uniform(-90, 70) if solid else random.uniform(180, 430)),
        core_hu=0.0,
        edge_mm=float(random.uniform(0.5, 4)),
        roughness=float(random.uniform(0, 0.35)),
        seed=int(random.integers(2**31)),
    )


def _draw_solid(depth: NDArray[np.float32], random: np.random.Generator) -> Opacity:
    """Draw a consolidation of about 0.5 to 10 ml, anywhere in the lungs."""
    opacity = _draw_small(depth, random, at_pleura=False)
    return replace(
        opacity,
        texture=Texture.CONSOLIDATION,
        density_hu=float(random.uniform(-90, 70)),
    )


def _draw_airless(
    depth: NDArray[np.float32],
    random: np.random.Generator,
    *,
    whole: bool,
) -> Opacity:
    """Draw the consolidation of a lobe, or of a whole lung, in the lung of that depth."""
    places = np.argwhere(depth[:, ::4, ::4] > 0) * (1, 4, 4)
    place = places[random.integers(len(places))]
    size = 1000.0 if whole else random.uniform(45, 85)
    return Opacity(
        texture=Texture.CONSOLIDATION,
        center=(int(place[0]), int(place[1]), int(place[2])),
        radii_mm=(draw_radius(size, random), draw_radius(size, random), draw_radius(size, random)),
        crescent_mm=None,
        density_hu=float(random.uniform(-60, 70)),
        core_hu=0.0,
        edge_mm=float(random.uniform(0.5, 6)),
        roughness=0.0 if whole else float(random.uniform(0, 0.3)),
        seed=int(random.integers(2**31)),
        open_bronchi=random.random() < 0.5,
    )
