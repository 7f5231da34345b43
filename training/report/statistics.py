"""Numbers over records: means with intervals, agreement, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 4000
SEED = 1
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval, and of how many values.

    The interval is None where there are fewer than two values; all is None without any.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Bland and Altman 1986, of measured minus true values.

    ``low`` and ``high`` are the limits of agreement: bias and 1.96 standard deviations.
    """

    bias: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A bin of a reliability curve: the predicted and the observed frequency."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float


def bootstrap(values: Sequence[float | None]) -> Estimate:
    """Return the mean with a percentile bootstrap interval; None values are left out.

    Each value stands for one unit that is drawn with replacement (a patient, a scan).
    """
    return bootstrap_clusters([[value] for value in values if value is not None])


def bootstrap_clusters(clusters: Sequence[Sequence[float]]) -> Estimate:
    """Return the mean over all values; whole clusters are drawn with replacement, empty ones not.

    The slices of a patient are alike: an interval over slices as if each were a patient of
    its own would be too narrow.
    """
    filled = [cluster for cluster in clusters if cluster]
    if not filled:
        return Estimate(mean=None, low=None, high=None, count=0)
    sums = np.array([sum(cluster) for cluster in filled], dtype=float)
    sizes = np.array([len(cluster) for cluster in filled], dtype=float)
    count = int(sizes.sum())
    mean = float(sums.sum() / count)
    if len(filled) < 2:
        return Estimate(mean=mean, low=None, high=None, count=count)
    drawn = np.random.default_rng(SEED).integers(len(sums), size=(DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, _PERCENTILES)
    return Estimate(mean=mean, low=float(low), high=float(high), count=count)


def proportion(hits: int, count: int) -> Estimate:
    """Return a proportion with Wilson's interval."""
    if count == 0:
        return Estimate(mean=None, low=None, high=None, count=0)
    interval = stats.binomtest(hits, count).proportion_ci(method="wilson")
    return Estimate(
        mean=hits / count, low=float(interval.low), high=float(interval.high), count=count
    )


def agreement(found: Sequence[float], true: Sequence[float]) -> Agreement | None:
    """Return bias and limits of agreement; None of fewer than two pairs."""
    if len(found) < 2:
        return None
    gaps = np.subtract(found, true)
    bias, reach = float(gaps.mean()), 1.96 * float(gaps.std(ddof=1))
    return Agreement(bias=bias, low=bias - reach, high=bias + reach, count=len(gaps))


def auc(scores: Sequence[float], truth: Sequence[bool]) -> Estimate:
    """Return the area under the ROC curve (ties count half) with a bootstrap interval.

    Positives and negatives are drawn separately. ``count`` is that of both.
    """
    positive = np.array([score for score, is_true in zip(scores, truth, strict=True) if is_true])
    negative = np.array(
        [score for score, is_true in zip(scores, truth, strict=True) if not is_true]
    )
    if not positive.size or not negative.size:
        return Estimate(mean=None, low=None, high=None, count=len(scores))
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    random = np.random.default_rng(SEED)
    rows, columns = (_draws(size, random) for size in wins.shape)
    low, high = np.percentile(((rows @ wins) * columns).sum(axis=1) / wins.size, _PERCENTILES)
    return Estimate(mean=float(wins.mean()), low=float(low), high=float(high), count=len(scores))


def _draws(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each of ``size`` units is drawn, (draw, unit)."""
    return random.multinomial(size, np.full(size, 1 / size), size=DRAWS).astype(np.float64)


def reliability(scores: Sequence[float], truth: Sequence[bool], bins: int = 5) -> tuple[Bin, ...]:
    """Return the non-empty bins of equal width over 0 to 1; 1 belongs to the last."""
    edges = np.linspace(0, 1, bins + 1)
    values, labels = np.array(scores, dtype=float), np.array(truth, dtype=bool)
    places = np.clip(np.digitize(values, edges) - 1, 0, bins - 1)
    return tuple(
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            count=int(member.sum()),
            predicted=float(values[member].mean()),
            observed=float(labels[member].mean()),
        )
        for place in range(bins)
        for member in [places == place]
        if member.any()
    )


def brier(scores: Sequence[float], truth: Sequence[bool]) -> float | None:
    """Return the mean squared error of the score as a probability; None of no scores."""
    if not scores:
        return None
    gaps = np.subtract(scores, np.array(truth, dtype=float))
    return float((gaps**2).mean())
