"""Which images go into which list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alphafix.errors import InputError, counted, option
from alphafix.images.source import OPEN
from alphafix.longtail.counts import largest_fitting
from alphafix.longtail.material import ClassImages, shuffled
from alphafix.values.arrays import IntArray

RankOrder = Literal["id", "random", "size"]

# The order in which lists draw from images that they share: with the same seed, another
# distribution changes the training list only, and a smaller one is a part of a larger one.
DRAWN = ("test", "val", "train")

# Classes that an error names.
SHOWN = 5


@dataclass(frozen=True)
class Source:
    """Where the balanced lists come from.

    Attributes:
        parts: Part of the images ("train", "val", "test") that each list draws from.
        sizes: Images a class of the lists "val" and "test".
    """

    parts: Mapping[str, str]
    sizes: Mapping[str, int]

    def reserved(self) -> int:
        """Images a class that other lists take from the training images."""
        return sum(size for split, size in self.sizes.items() if self.parts[split] == "train")


@dataclass(frozen=True)
class LongTail:
    """Lists of images.

    Attributes:
        names: The C known classes, in the order of their ids.
        open_names: Classes of the open list.
        lists: (path, label) by split, sorted by label and path; labels of "open" are -1.
        available: Training images of each known class that could be drawn, int64 of shape C.
    """

    names: tuple[str, ...]
    open_names: tuple[str, ...]
    lists: Mapping[str, Sequence[tuple[str, int]]]
    available: IntArray

    def counts(self, split: str) -> IntArray:
        """Images of each known class in a list, int64 of shape C."""
        labels = [label for _, label in self.lists.get(split, ())]
        return np.bincount(np.array(labels, dtype=np.int64), minlength=len(self.names))

    def texts(self) -> dict[str, str]:
        """The list files and the class order, by name.

        Raises:
            InputError: If a name cannot be written as a line of text.
        """
        files = {
            f"{split}.txt": "".join(f"{_line(path)} {label}\n" for path, label in rows)
            for split, rows in self.lists.items()
        }
        return {**files, "classes.txt": "".join(f"{_line(name)}\n" for name in self.names)}


def class_counts(
    images: ClassImages,
    names: Sequence[str],
    profile: Callable[[int], IntArray],
    source: Source,
    *,
    order: RankOrder,
    most: int | None,
    seed: int,
) -> IntArray:
    """Training images of each class by a law, int64 of shape C.

    Args:
        images: All images.
        names: The C known classes.
        profile: Counts by rank, descending, given the first.
        source: What other lists take.
        order: Which class gets most: by id, at random, or by its number of images.
        most: Images of the first class; None for as many as the classes have enough for.
        seed: Of the random order.

    Raises:
        InputError: If the classes have too few images for any such counts.
    """
    available = available_counts(images, names, source)
    if order == "size":
        ranks = np.argsort(-available, kind="stable")
    elif order == "random":
        place = {name: i for i, name in enumerate(names)}
        ranks = np.array([place[name] for name in shuffled(names, seed, "order")])
    else:
        ranks = np.arange(len(names))
    first = largest_fitting(profile, available[ranks]) if most is None else most
    counts = np.empty(len(names), dtype=np.int64)
    counts[ranks] = profile(first)
    if most is None and (first == 0 or (counts > available).any()):
        scarce = int(available.argmin())
        raise InputError(
            "the classes have too few images for a distribution of this kind",
            got=f"{names[scarce]!r} with {available[scarce]} training images, after validation "
            "and test",
            expected=f"at least {int(profile(1).min())} in every class",
            todo=f"lower {option('min')}, {option('val')} or {option('test')}, or leave that "
            "class out",
        )
    return counts


def available_counts(images: ClassImages, names: Sequence[str], source: Source) -> IntArray:
    """Training images of each class that other lists leave, int64 of shape C."""
    found = [len(images.of("train", name)) - source.reserved() for name in names]
    return np.maximum(np.array(found, dtype=np.int64), 0)


def draw(
    images: ClassImages,
    names: Sequence[str],
    counts: IntArray,
    source: Source,
    unknown: Mapping[str, Sequence[str]],
    *,
    open_images: int | None,
    seed: int,
) -> LongTail:
    """Draw all lists.

    Args:
        images: All images.
        names: The C known classes, in the order of their ids.
        counts: Training images of each, int64 of shape C, at least 1.
        source: Where the balanced lists come from.
        unknown: Images of each open class.
        open_images: Images to draw of each open class; None for all.
        seed: Of everything.

    Raises:
        InputError: If a class has too few images, would get none, or an image would be in
            the open list and in another.
    """
    if (counts < 1).any():
        raise InputError(
            "a class would get no training images",
            got=f"{names[int(counts.argmin())]!r} with {counts.min()}",
            expected="at least one image of every class",
            todo=f"raise {option('max')} or lower {option('imbalance')}",
        )
    sizes = {split: np.full(len(names), size) for split, size in source.sizes.items()}
    sizes["train"] = counts
    _check_enough(images, names, sizes, source)
    lists: dict[str, list[tuple[str, int]]] = {split: [] for split in ("train", "val", "test")}
    for label, name in enumerate(names):
        left = {part: shuffled(images.of(part, name), seed) for part in set(source.parts.values())}
        for split in DRAWN:
            pool, size = left[source.parts[split]], int(sizes[split][label])
            lists[split] += [(path, label) for path in sorted(pool[:size])]
            del pool[:size]
    for name, paths in unknown.items():
        chosen = _some(name, paths, open_images, seed)
        lists.setdefault("open", []).extend((path, OPEN) for path in sorted(chosen))
    _check_overlap(lists)
    filled = {split: tuple(rows) for split, rows in lists.items() if rows}
    return LongTail(tuple(names), tuple(unknown), filled, available_counts(images, names, source))


def _some(name: str, paths: Sequence[str], most: int | None, seed: int) -> Sequence[str]:
    if most is not None and len(paths) < most:
        raise InputError(
            "an open class has too few images",
            got=f"{name!r} with {len(paths)}",
            expected=f"{counted(most, 'image')}",
            todo=f"lower {option('open_images')}, or leave it out to take all of them",
        )
    return paths if most is None else shuffled(paths, seed)[:most]


def _check_enough(
    images: ClassImages, names: Sequence[str], sizes: Mapping[str, IntArray], source: Source
) -> None:
    short = []
    for part in dict.fromkeys(source.parts.values()):
        takers = [split for split in DRAWN if source.parts[split] == part]
        needed = np.sum([sizes[split] for split in takers], axis=0)
        for label, name in enumerate(names):
            there = len(images.of(part, name))
            if there < needed[label]:
                parts = " + ".join(
                    f"{sizes[split][label]} for {split}" for split in reversed(takers)
                )
                short.append(f"{name!r} has {counted(there, 'image')} in {part}, of {parts}")
    if short:
        more = f"; and {len(short) - SHOWN} more classes" if len(short) > SHOWN else ""
        raise InputError(
            f"{len(short)} of {len(names)} classes have too few images",
            got="; ".join(short[:SHOWN]) + more,
            expected="as many images as their lists take",
            todo=f"lower {option('max')}, {option('val')} or {option('test')}, give "
            f"{option('order', 'size')} (large classes first), or "
            "leave these classes out",
        )


def _check_overlap(lists: Mapping[str, Sequence[tuple[str, int]]]) -> None:
    known = {path for split, rows in lists.items() if split != "open" for path, _ in rows}
    paths = [path for path, _ in lists.get("open", ())]
    both = [path for path in paths if path in known]
    twice = len(paths) - len(set(paths))
    if both or twice:
        raise InputError(
            "the open images overlap others",
            got=f"{both[0]}, which is in a list of known classes"
            if both
            else f"{counted(twice, 'image')} twice",
            expected="images of classes that training never sees, each once",
            todo=f"correct {option('open')} or {option('open_data')}",
        )


def _line(text: str) -> str:
    """``text`` as it is, if a list can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        bad = True
    else:
        bad = text != text.strip() or any(sign in text for sign in "\n\r\t")
    if bad:
        raise InputError(
            "a name cannot be written into a list",
            got=ascii(text),
            expected="UTF-8 without tabs and line breaks, and without spaces at the ends",
            todo="rename the file or folder",
        )
    return text
