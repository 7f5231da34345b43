"""Airways and pulmonary vessels: branching trees of thin tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_HILA = {"left": np.array([44.0, 8.0, 6.0]), "right": np.array([-44.0, 8.0, 6.0])}
_CARINA = np.array([0.0, 12.0, 34.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tubes:
    """Balls along tubes: ``centers`` (n, 3) in (x, y, z) mm and ``radii`` (n,) mm."""

    centers: Points
    radii: NDArray[np.float64]

    def widened(self, by: float) -> Tubes:
        """Return the same tubes with larger radii."""
        return Tubes(centers=self.centers, radii=self.radii + by)


def _tube(start: Points, end: Points, r0: float, r1: float) -> tuple[Points, Points]:
    length = float(np.linalg.norm(end - start))
    count = max(2, int(length / (0.5 * min(r0, r1))) + 1)
    t = np.linspace(0, 1, count)
    return start + t[:, None] * (end - start), r0 + t * (r1 - r0)


def _joined(parts: list[tuple[Points, Points]]) -> Tubes:
    return Tubes(
        centers=np.concatenate([part[0] for part in parts]),
        radii=np.concatenate([part[1] for part in parts]),
    )


def central_airways() -> Tubes:
    """Return trachea and main bronchi, which are not part of the lungs."""
    top = np.array([0.0, 4.0, 190.0])
    return _joined(
        [
            _tube(top, _CARINA, 9.0, 8.5),
            _tube(_CARINA, _HILA["left"] * [0.85, 1, 1.6], 7.0, 5.8),
            _tube(_CARINA, _HILA["right"] * [0.8, 1, 2.0], 7.6, 6.4),
        ]
    )


def _branches(
    random: np.random.Generator, start: Points, direction: Points, radius: float, least: float
) -> list[tuple[Points, Points]]:
    """Grow a tree: each branch forks in two thinner ones until ``least`` is reached."""
    parts: list[tuple[Points, Points]] = []
    queue = [(start, direction / np.linalg.norm(direction), radius)]
    while queue:
        origin, heading, r = queue.pop()
        end = origin + heading * random.uniform(5.0, 8.0) * r**0.7 * 1.6
        thinner = r * random.uniform(0.76, 0.86)
        parts.append(_tube(origin, end, r, thinner))
        if thinner < least:
            continue
        side = np.cross(heading, random.normal(size=3))
        side /= np.linalg.norm(side)
        for sign, spread in ((1, random.uniform(0.2, 0.5)), (-1, random.uniform(0.45, 0.9))):
            turned = heading + sign * spread * side
            child = thinner if sign > 0 else thinner * random.uniform(0.75, 0.95)
            if child >= least:
                queue.append((end, turned / np.linalg.norm(turned), child))
    return parts


def _directions(side: str) -> list[Points]:
    out = 1.0 if side == "left" else -1.0
    headings = ((0.8, 0.1, 1.1), (1, -0.5, 0.3), (1, 0.6, 0.1), (0.5, 0.6, -1.0), (0.8, -0.2, -0.9))
    return [np.array([out * h[0], h[1], h[2]]) for h in headings]


def vessels(seed: int, least: float) -> Tubes:
    """Return pulmonary arteries and veins of both lungs down to radius ``least`` mm."""
    random = np.random.default_rng((seed, 2))
    parts: list[tuple[Points, Points]] = []
    for side, hilum in _HILA.items():
        for heading in _directions(side):
            for shift in (0.0, 7.0):
                start = hilum + random.normal(0, 3, 3) + [0, -shift, -shift]
                parts += _branches(random, start, heading + random.normal(0, 0.12, 3), 4.6, least)
    return _joined(parts)


def peripheral_airways(seed: int) -> Tubes:
    """Return lobar and segmental bronchi, which lie inside the lungs."""
    random = np.random.default_rng((seed, 3))
    parts: list[tuple[Points, Points]] = []
    for side, hilum in _HILA.items():
        for heading in _directions(side):
            parts += _branches(random, hilum + np.array([0, 4, 3]), heading, 3.0, 1.3)
    return _joined(parts)


def rasterise(
    tubes: Tubes,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Return how much of each voxel the tubes fill, 0..1.

    Args:
        tubes: In (x, y, z) mm.
        shape: (slice, row, column).
        spacing: mm along (slice, row, column).
        origin: (x, y, z) of voxel (0, 0, 0).
    """
    filled = np.zeros(shape, dtype=np.float32)
    flat = filled.reshape(-1)
    centers = (tubes.centers - origin)[:, ::-1] / spacing
    soft = float(np.mean(spacing[1:]))
    bins = np.ceil(tubes.radii)
    for size in np.unique(bins):
        chosen = bins == size
        reach = [int(np.ceil((size + soft) / step)) for step in spacing]
        offsets = np.stack(
            np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1
        ).reshape(-1, 3)
        for block in np.array_split(np.flatnonzero(chosen), max(1, chosen.sum() // 2000)):
            base = np.round(centers[block]).astype(np.int64)
            voxels = base[:, None, :] + offsets
            distance = np.linalg.norm((voxels - centers[block][:, None, :]) * spacing, axis=-1)
            weight = np.clip((tubes.radii[block][:, None] - distance) / soft + 0.5, 0, 1)
            inside = ((voxels >= 0) & (voxels < shape)).all(-1) & (weight > 0)
            index = np.ravel_multi_index(tuple(voxels[inside].T), shape)
            np.maximum.at(flat, index, weight[inside].astype(np.float32))
    return filled
