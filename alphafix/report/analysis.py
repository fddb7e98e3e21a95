"""What the figures show, as plain numbers (reference: AlphaNet, sections 1 and 4, appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.alphanet.neighbors import nearest_rows
from alphafix.metrics.alike import Alike
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

GROUPS = ("correct", "wrong: as a neighbour", "wrong: otherwise")
"""The prediction groups of Figure 1a."""

# Bootstrap draws behind the band of a linear fit and the intervals over trials (the paper's).
DRAWS = 10_000


@dataclass(frozen=True)
class Pool:
    """Which classes count as like which others.

    Attributes:
        key: "few-base", "base-few" or "all-all".
        classes: Classes whose samples are looked at, ascending, int64 of shape P.
        alike: Which predicted class is a neighbour of which true one.
        distances: Mean distance of each class of ``classes`` to its K neighbours, float64 of
            shape P.
    """

    key: str
    classes: IntArray
    alike: Alike
    distances: FloatArray64


def neighbour_pools(
    means: FloatArray, classes: ClassTable, k: int, *, seen: IntArray | None = None
) -> list[Pool]:
    """The neighbour pools of Figure 5: few -> base, base -> few, all -> all but oneself.

    Where a pool has fewer than K classes, all of them are neighbours.

    Args:
        means: Class means, float32 of shape C x D.
        classes: The class table.
        k: K.
        seen: Labels of the samples that are looked at: neighbours of other classes are not
            searched, which would take C x C products. None for all classes.
    """
    everything = classes.tier("overall")
    wanted = [
        ("few-base", classes.few, classes.base),
        ("base-few", classes.base, classes.few),
        ("all-all", everything, everything),
    ]
    return [
        _pool(key, means, _seen(own, seen), others, k, len(classes))
        for key, own, others in wanted
        if len(own) and len(others) > (key == "all-all")
    ]


def _seen(own: IntArray, seen: IntArray | None) -> IntArray:
    """Those of some classes that have samples; one of them where none has."""
    found = own if seen is None else np.intersect1d(own, seen)
    return found if len(found) else own[:1]


def _pool(
    key: str, means: FloatArray, own: IntArray, others: IntArray, k: int, num_classes: int
) -> Pool:
    themselves = key == "all-all"
    count = min(k + themselves, len(others))
    ids = others[nearest_rows(means, others, own, count)]
    distances = np.stack(
        [np.linalg.norm(means[own].astype(np.float64) - means[near], axis=1) for near in ids.T],
        axis=1,
    )
    keep = ids != own[:, None] if themselves else np.ones(ids.shape, dtype=np.bool_)
    # With equal means, a class need not be its own nearest one: never keep more than K.
    keep &= np.cumsum(keep, axis=1) <= k
    rows = np.broadcast_to(own[:, None], ids.shape)
    alike = Alike.of_pairs(rows[keep], ids[keep], num_classes)
    mean = np.where(keep, distances, 0).sum(axis=1) / np.maximum(keep.sum(axis=1), 1)
    return Pool(key, own, alike, mean)


def prediction_groups(predicted: IntArray, labels: IntArray, alike: Alike) -> IntArray:
    """Index into `GROUPS` of each sample (Figure 1a), int64 of shape N."""
    near = alike.holds(labels, predicted)
    return np.where(predicted == labels, 0, np.where(near, 1, 2)).astype(np.int64)


def flows(before: IntArray, after: IntArray) -> IntArray:
    """Samples that went from each group to each (Figure 5), int64 of shape 3 x 3."""
    cells = np.bincount(before * len(GROUPS) + after, minlength=len(GROUPS) ** 2)
    return cells.reshape(len(GROUPS), len(GROUPS)).astype(np.int64)


@dataclass(frozen=True)
class Fit:
    """A straight line through points, with its bootstrap band.

    Attributes:
        slope: Of least squares.
        intercept: Of least squares.
        r: Pearson's correlation.
        r_low: Lower end of its 95% bootstrap interval over points.
        r_high: Upper end.
        x: Where the band is given, ascending, float64.
        low: Lower end of the line's 95% band at ``x``.
        high: Upper end.
    """

    slope: float
    intercept: float
    r: float
    r_low: float
    r_high: float
    x: FloatArray64
    low: FloatArray64
    high: FloatArray64


def linear_fit(x: FloatArray64, y: FloatArray64, *, draws: int = DRAWS) -> Fit | None:
    """Fit y over x, with a band and an interval of r by bootstrap over the points (classes).

    Returns:
        None where fewer than three points, or no variation, leave nothing to fit.
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    slope, intercept, r = _least_squares(x[None], y[None])
    rng = np.random.default_rng(0)
    grid = np.linspace(x.min(), x.max(), 50)
    parts = []
    for start in range(0, draws, 500):
        index = rng.integers(len(x), size=(min(500, draws - start), len(x)))
        parts.append(np.stack(_least_squares(x[index], y[index])))
    slopes, intercepts, correlations = np.concatenate(parts, axis=1)
    real = np.isfinite(correlations)  # a draw of one and the same point has no line
    lines = slopes[real, None] * grid + intercepts[real, None]
    low, high = np.percentile(lines, [2.5, 97.5], axis=0)
    r_low, r_high = np.percentile(correlations[real], [2.5, 97.5])
    return Fit(
        float(slope[0]),
        float(intercept[0]),
        float(r[0]),
        float(r_low),
        float(r_high),
        grid,
        low,
        high,
    )


def _least_squares(
    x: FloatArray64, y: FloatArray64
) -> tuple[FloatArray64, FloatArray64, FloatArray64]:
    """Slope, intercept and r of each row of points."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    sxx, sxy, syy = (dx**2).sum(axis=1), (dx * dy).sum(axis=1), (dy**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = sxy / sxx
        r = sxy / np.sqrt(sxx * syy)
    return slope, y.mean(axis=1) - slope * x.mean(axis=1), r


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over trials and its 95% bootstrap interval (Figures 3 and A1)."""
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(0)
    means = array[rng.integers(len(array), size=(DRAWS, len(array)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(array.mean()), float(low), float(high)


def top_confusions(
    predicted: IntArray, labels: IntArray, num_classes: int, most: int = 3
) -> dict[int, list[tuple[int, int]]]:
    """For each class, the classes it is most often taken for: (class, samples), most first."""
    wrong = predicted != labels
    pairs, counts = np.unique(labels[wrong] * num_classes + predicted[wrong], return_counts=True)
    found: dict[int, list[tuple[int, int]]] = {}
    for place in np.argsort(-counts, kind="stable").tolist():
        own, other = divmod(int(pairs[place]), num_classes)
        mine = found.setdefault(own, [])
        if len(mine) < most:
            mine.append((other, int(counts[place])))
    return found
