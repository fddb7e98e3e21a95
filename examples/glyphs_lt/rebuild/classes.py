"""Step 6b: choose the classes, and how many training samples each of them gets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import FloatArray

from .deal import Stock
from .values import option, squared_distances

# Greek with breathings and accents: there are so many that they would fill the classes.
POLYTONIC = range(0x1F00, 0x2000)
POLYTONIC_SHARE = 0.08
MANY_ABOVE = 100
FEW_BELOW = 20
# Count of the curve where few begins: it rounds to 20, and all after it to less.
LAST_MEDIUM = 19.6


@dataclass(frozen=True)
class BuildOptions:
    """What the data set shall look like; every field is a flag of the command line."""

    classes: int = option(300, "number of classes C")
    cluster: int = option(12, "classes of a cluster of look-alikes: an anchor and its nearest")
    homoglyph_share: float = option(0.5, "share of common faces from which two look the same")
    most: int = option(400, "training samples of the most frequent class")
    fewest: int = option(5, "training samples of the rarest class")
    many_share: float = option(0.40, "share of the classes with more than 100")
    few_share: float = option(0.22, "share of the classes with less than 20")
    val: int = option(8, "validation samples a class")
    test: int = option(20, "test samples a class")
    min_train: int = option(40, "training glyphs a class needs before the tail is cut")
    min_coverage: int = option(250, "candidate code points that a text face covers")
    open: int = option(1000, "samples of open-set code points")
    seed: int = option(1, "seed of every choice of this step")

    def __post_init__(self) -> None:
        """Refuse a tail that would leave a split of the classes empty or not fall."""
        if self.most <= MANY_ABOVE or self.fewest >= FEW_BELOW:
            raise ValueError(
                f"counts from {self.most} to {self.fewest} do not pass {MANY_ABOVE} and "
                f"{FEW_BELOW}: give --most above {MANY_ABOVE} and --fewest below {FEW_BELOW}"
            )


def choose_classes(
    stock: Stock,
    means: Mapping[int, FloatArray],
    shares: Mapping[tuple[int, int], float],
    options: BuildOptions,
    generator: random.Random,
) -> list[int]:
    """Choose the code points of the classes: clusters of look-alikes without homoglyphs.

    Args:
        stock: The glyphs there are.
        means: Code point -> mean descriptor.
        shares: Pair of code points -> share of faces that draw both the same.
        options: What is wanted.
        generator: Source of chance.

    Raises:
        ValueError: If the fonts do not cover enough code points.
    """
    eligible = [c for c in means if _has_enough(stock, c, options)]
    eligible.sort(key=lambda c: (-stock.total(c), c))
    distinct = drop_homoglyphs(eligible, shares, options.homoglyph_share)
    distinct = limit_polytonic(distinct, round(POLYTONIC_SHARE * options.classes), generator)
    if len(distinct) < options.classes:
        raise ValueError(
            f"the fonts cover {len(distinct)} distinct characters well enough for a class, "
            f"but {options.classes} classes are asked for: install more fonts, lower --classes, "
            "or lower --min-samples of the render step and --min-train, --val or --test"
        )
    vectors = np.stack([means[c] for c in distinct])
    chosen = choose_clusters(vectors, options.classes, options.cluster, generator)
    return sorted(distinct[i] for i in chosen)


def _has_enough(stock: Stock, code_point: int, options: BuildOptions) -> bool:
    wanted = {"train": options.min_train, "val": options.val, "test": options.test}
    return all(stock.count(code_point, split) >= n for split, n in wanted.items())


def drop_homoglyphs(
    ranked: Sequence[int], shares: Mapping[tuple[int, int], float], limit: float
) -> list[int]:
    """Keep a code point unless it looks like one kept before it.

    Args:
        ranked: Code points, the most frequent first.
        shares: (lower, higher) code point -> share of faces that draw both the same.
        limit: The share from which two code points are homoglyphs.
    """
    alike = {pair for pair, share in shares.items() if share >= limit}
    kept: list[int] = []
    for code_point in ranked:
        if not any((min(code_point, k), max(code_point, k)) in alike for k in kept):
            kept.append(code_point)
    return kept


def limit_polytonic(code_points: list[int], most: int, generator: random.Random) -> list[int]:
    """Keep at most so many polytonic Greek letters, chosen at random."""
    polytonic = [c for c in code_points if c in POLYTONIC]
    dropped = set(generator.sample(polytonic, max(0, len(polytonic) - most)))
    return [c for c in code_points if c not in dropped]


def choose_clusters(
    vectors: FloatArray, classes: int, cluster: int, generator: random.Random
) -> list[int]:
    """Choose random anchors and the nearest neighbours of each until there are enough.

    Args:
        vectors: One mean descriptor a candidate.
        classes: How many to choose.
        cluster: Size of a cluster, its anchor included.
        generator: Source of chance.

    Returns:
        Sorted indices of the chosen candidates.
    """
    distances = squared_distances(vectors, vectors)
    np.fill_diagonal(distances, -1)  # so that an anchor is the first of its own cluster
    anchors = list(range(len(vectors)))
    generator.shuffle(anchors)
    chosen: dict[int, None] = {}
    for anchor in anchors:
        chosen.update(dict.fromkeys(np.argsort(distances[anchor])[:cluster].tolist()))
    return sorted(list(chosen)[:classes])


def tail_counts(options: BuildOptions) -> list[int]:
    """Return C training counts, falling log-linearly through 100 and 20."""
    position = np.linspace(0, 1, options.classes)
    knots = [0, options.many_share, 1 - options.few_share, 1]
    levels = np.log([options.most, MANY_ABOVE, LAST_MEDIUM, options.fewest])
    counts: list[int] = np.exp(np.interp(position, knots, levels)).round().astype(int).tolist()
    return counts


def order_by_tail(
    code_points: Sequence[int], counts: Sequence[int], stock: Stock, generator: random.Random
) -> list[int]:
    """Deal the counts to the classes at random, as far as their glyphs reach.

    Returns:
        The code points in the order of ``counts``: the class ids.
    """
    left = list(code_points)
    order = []
    for count in counts:
        fitting = [c for c in left if stock.count(c, "train") >= count]
        largest = max(left, key=lambda c: stock.count(c, "train"))
        choice = generator.choice(fitting or [largest])
        left.remove(choice)
        order.append(choice)
    return order
