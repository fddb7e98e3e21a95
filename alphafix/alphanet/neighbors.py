"""Finding the base classes nearest to each few-split class, by the distance of class means."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from alphafix.errors import InputError, MissingPackageError, option
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)

# FAISS ranks in float32; this many more candidates than asked for are measured again in
# float64, so that its rounding cannot decide which of two near-equal neighbours comes first.
EXTRA_CANDIDATES = 8

# Classes whose neighbours are searched at a time, so that memory does not grow with their number.
SEARCH_ROWS = 4096

# A search of more multiplications than this says what it costs before it starts: exact search
# takes the product of the two numbers of classes, times the width. A processor
# core does about 3e10 a second.
TOLD_FROM = 5e11

# Classes that are searched to tell how fast this machine is. FAISS searches a few dozen
# in another way, which takes 20 times as long a class.
PROBE_ROWS = 1024

# Rows that are scaled and handed to FAISS at a time.
ADDED_ROWS = 65536


def nearest_neighbours(
    means: FloatArray64,
    classes: ClassTable,
    *,
    k: int = 5,
    metric: str = "euclidean",
    seed: int = 0,
) -> Neighbours:
    """Find the K base classes nearest to each few-split class (AlphaNet, section 3.1).

    Args:
        means: Class means of the unnormalised training features, float64, C x D. The cosine
            metric normalises the means, not the features.
        classes: The class table, which says which classes are few-split.
        k: K.
        metric: "euclidean", "cosine", or "random" for the control of Figure 3: K different
            base classes drawn for each few-split class from ``seed``.
        seed: Seed of the random neighbours.

    Raises:
        InputError: If there is nothing to correct, or no choice (see `most_neighbours`), or there
            are not more than K base classes; or a distance is not finite.
    """
    most = most_neighbours(classes)
    few, base = classes.few, classes.base
    if k > most:
        raise InputError(
            "too many neighbours are asked for",
            got=f"k = {k} of {len(base)} other classes",
            expected=f"k in 1..{most}",
            todo=f"give a smaller {option('k')}",
        )
    if metric == "random":
        ids = random_neighbours(classes, k=k, seed=seed)
    else:
        points = _unit_rows(means) if metric == "cosine" else means
        ids = base[nearest_rows(points, base, few, k)]
    distances = _distances(means, few, ids, "cosine" if metric == "cosine" else "euclidean")
    if not np.isfinite(distances).all():
        raise InputError(
            "distances between class means are not finite",
            got=f"means up to {np.abs(means[np.r_[few, base]]).max():.3g}",
            expected="distances within the range of float32 (3.4e38)",
            todo="check the features, or scale them and the head's rows",
        )
    return Neighbours(few, ids, distances, means.astype(np.float32), metric)


def most_neighbours(classes: ClassTable) -> int:
    """The largest K: one base class is left over, so that there is a choice.

    Raises:
        InputError: If there is nothing to correct (see `ClassTable.require_correctable`), or only
            one base class.
    """
    classes.require_correctable()
    if len(classes.base) < 2:
        raise InputError(
            "there is only one class that is not rare, and so no choice of neighbours",
            got=classes.names[classes.base[0]],
            expected="two or more",
            todo=classes.threshold_todo("lower"),
        )
    return len(classes.base) - 1


def warn_of_few(k: int) -> None:
    """Log a warning where K is too small for AlphaNet to train well."""
    if k < 3:
        why = "alpha can only be +1 or -1" if k == 1 else "training is unstable"
        logger.warning("with k = %d %s; the paper's choice is 5", k, why)


def random_neighbours(classes: ClassTable, *, k: int, seed: int) -> IntArray:
    """Draw K different base classes for each few-split class, int64 of shape F x K."""
    rng = np.random.default_rng(seed)
    base = classes.base  # once: it is found anew whenever it is asked for
    drawn = [rng.choice(base, size=k, replace=False) for _ in classes.few]
    return np.stack(drawn).astype(np.int64)


def _unit_rows(points: FloatArray64) -> FloatArray64:
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    if (norms == 0).any():
        raise InputError(
            "a class mean is zero, so it has no direction",
            got=f"class {int(np.flatnonzero(norms == 0)[0])}",
            expected="means that are not zero for the cosine metric",
            todo=f"use {option('metric', 'euclidean')}",
        )
    unit: FloatArray64 = points / norms
    return unit


def nearest_rows(
    points: FloatArray | FloatArray64, among: IntArray, of: IntArray, k: int
) -> IntArray:
    """For some rows of ``points`` the K nearest of others, by Euclidean distance (exact search).

    Args:
        points: Float of shape C x D.
        among: Rows that are searched, int64 of shape B, K of them or more.
        of: Rows whose neighbours are wanted, int64 of shape F.
        k: K.

    Returns:
        Positions in ``among``, the nearest first and ties to the lower position; int64 of shape
        F x K.

    Raises:
        InputError: If a distance is not finite.
    """
    # Far from the origin, float32 would spend its digits on what all means have in common; squares
    # of large numbers overflow there, and those of small ones are all zero.
    center = points[among].mean(axis=0, dtype=np.float64)
    scale = max(_largest(points, ids, center) for ids in (among, of)) or 1.0

    def scaled(ids: IntArray) -> FloatArray:
        return np.ascontiguousarray((points[ids] - center) / scale, dtype=np.float32)

    index = _faiss_index(points.shape[1])
    for ids in _pieces(among, ADDED_ROWS):
        index.add(scaled(ids))
    wanted = min(k + EXTRA_CANDIDATES, len(among))
    _tell_cost(index, scaled(of[:PROBE_ROWS]), wanted, len(of), len(among))
    order = np.empty((len(of), k), dtype=np.int64)
    for start in range(0, len(of), SEARCH_ROWS):
        own = of[start : start + SEARCH_ROWS]
        _, found = index.search(scaled(own), wanted)
        if found.min(initial=0) < 0:
            raise InputError(
                "FAISS found fewer neighbours than there are classes",
                got=f"class means up to {np.abs(points).max():.3g}",
                expected="finite numbers",
                todo="check the features, or scale them and the head's rows",
            )
        for place, candidates in enumerate(np.sort(found.astype(np.int64), axis=1), start=start):
            mine = points[of[place]].astype(np.float64)
            exact = ((points[among[candidates]] - mine) ** 2).sum(axis=1)
            order[place] = candidates[np.argsort(exact, kind="stable")[:k]]
    return order


def _pieces(ids: IntArray, size: int) -> Iterator[IntArray]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _largest(points: FloatArray | FloatArray64, ids: IntArray, center: FloatArray64) -> float:
    """The largest distance of a coordinate of some rows from that of the centre."""
    return float(max(np.abs(points[own] - center).max() for own in _pieces(ids, ADDED_ROWS)))


def _tell_cost(index: Any, queries: FloatArray, wanted: int, searched: int, among: int) -> None:
    """Say how long an exact search of many classes will take, by what some of them take."""
    width = queries.shape[1]
    cost = float(searched) * among * width
    if cost < TOLD_FROM:
        return
    start = time.perf_counter()
    index.search(queries, wanted)
    seconds = (time.perf_counter() - start) * searched / len(queries)
    logger.info(
        "exact search: %s classes among %s others, %.1e multiplications; %s at the rate of "
        "the first %d, and %.1f GiB for float32 means",
        f"{searched:,}",
        f"{among:,}",
        cost,
        f"about {seconds:,.0f} s" if seconds < 600 else f"about {seconds / 60:,.0f} minutes",
        len(queries),
        among * width * 4 / 2**30,
    )


def _faiss_index(width: int) -> Any:
    """An exact index for squared Euclidean distance, on a GPU if FAISS has one."""
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(
            "finding neighbours needs FAISS, which is not installed",
            expected="faiss-cpu or faiss-gpu (they install the same module, so choose one)",
            todo="pip install 'alphafix[cpu]' or pip install 'alphafix[gpu]'",
        ) from error
    index: Any = faiss.IndexFlatL2(width)
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    return index


def _distances(means: FloatArray64, few: IntArray, ids: IntArray, metric: str) -> FloatArray:
    """Distances of the named pairs of means in float64, returned as float32, F x K."""
    out = np.empty(ids.shape, dtype=np.float32)
    for row, (own, others) in enumerate(zip(few, ids, strict=True)):
        if metric == "cosine":
            norms = np.linalg.norm(means[own]) * np.linalg.norm(means[others], axis=1)
            out[row] = 1 - means[others] @ means[own] / norms
        else:
            out[row] = np.linalg.norm(means[others] - means[own], axis=1)
    return out
