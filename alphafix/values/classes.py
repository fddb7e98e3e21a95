"""The class table: names, training counts, and the few / medium / many split of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.errors import InputError, call, counted, option, some
from alphafix.files import read_object, write_json
from alphafix.reading.boundary import reading
from alphafix.reading.schema import Count, typed
from alphafix.remote import home_path
from alphafix.shown import in_list
from alphafix.values.arrays import IntArray
from alphafix.values.display import Displayed

FEWEST = 3
"""Classes that there are at least: one to correct, and a choice of others to correct it by."""

TIERS = ("few", "medium", "many")


@dataclass(frozen=True)
class Thresholds:
    """Where the splits end: few < ``few`` <= medium <= ``many`` < many (AlphaNet, section 4.1).

    The OLTR paper's ">= 100 and <= 20" is ``Thresholds(few=21, many=99)``.
    """

    few: int = 20
    many: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.few <= self.many + 1:
            raise InputError(
                "the split thresholds overlap",
                got=f"few < {self.few}, many > {self.many}",
                expected="1 <= few threshold <= many threshold + 1",
                todo=f"correct {option('few_below')} or {option('many_above')}",
            )

    def __str__(self) -> str:
        return f"few < {self.few}, medium {self.few}..{self.many}, many > {self.many}"


@dataclass(frozen=True)
class _Entry:
    """What is read of a class in classes.json."""

    name: str
    train: Count


@dataclass(frozen=True)
class ClassTable(Displayed):
    """The C classes of a classifier, in the order of its logits.

    Attributes:
        names: C class names.
        counts: Training samples of each class, int64 of shape C.
        thresholds: Where few and many end.
        labels: How labels of the data became class ids, as JSON data, where that is known.
    """

    names: tuple[str, ...]
    counts: IntArray
    thresholds: Thresholds = Thresholds()
    labels: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        if counts.shape != (len(self.names),):
            raise InputError(
                "class names and training counts differ in number",
                got=f"{counted(len(self.names), 'name')}, counts of shape {counts.shape}",
                expected="one count a name",
                todo="check where the class list comes from",
            )
        doubled = [name for name, count in Counter(self.names).items() if count > 1]
        if doubled:
            raise InputError(
                f"{counted(len(doubled), 'class name is', 'class names are')} there more than once",
                got=some(map(repr, doubled)),
                expected="each class under a name of its own",
                todo="tell them apart in the class list, for example by their ids",
            )
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of(
        cls,
        labels: npt.ArrayLike,
        names: Sequence[str] | None = None,
        *,
        num_classes: int | None = None,
        few_below: int = 20,
        many_above: int = 100,
    ) -> ClassTable:
        """Count training labels.

        Args:
            labels: Class ids of the N training samples, integers in 0..C-1.
            names: C class names; "class 0" and so on by default.
            num_classes: C, if there are neither names nor samples of the last classes.
            few_below: Classes with fewer training samples are few-split.
            many_above: Classes with more training samples are many-split.

        Raises:
            InputError: If a label is no class id, or names and labels do not fit together.
        """
        ids = np.asarray(labels)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.min(initial=0) < 0:
            raise InputError(
                "training labels are no class ids",
                got=f"shape {ids.shape}, dtype {ids.dtype}",
                expected="N integers in 0..C-1, in the order of the head's rows",
                todo="number the classes, for example with numpy.unique(..., return_inverse=True)",
            )
        least = num_classes if names is None else len(names)
        counts = np.bincount(ids, minlength=least or 0)
        if names is None:
            names = [f"class {i}" for i in range(len(counts))]
        return cls(tuple(names), counts, Thresholds(few=few_below, many=many_above))

    def with_thresholds(self, few_below: int | None, many_above: int | None) -> ClassTable:
        """The same classes with the thresholds that are given."""
        few = self.thresholds.few if few_below is None else few_below
        many = self.thresholds.many if many_above is None else many_above
        return replace(self, thresholds=Thresholds(few=few, many=many))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def tiers(self) -> npt.NDArray[np.int8]:
        """Index into `TIERS` for each class, int8 of shape C."""
        few = self.counts < self.thresholds.few
        many = self.counts > self.thresholds.many
        return np.where(few, 0, np.where(many, 2, 1)).astype(np.int8)

    def tier(self, name: str) -> IntArray:
        """Class ids of the split ``name`` ("few", "medium", "many", "base" or "overall")."""
        tiers = self.tiers
        if name == "overall":
            return np.arange(len(self), dtype=np.int64)
        if name == "base":
            return np.flatnonzero(tiers != 0).astype(np.int64)
        return np.flatnonzero(tiers == TIERS.index(name)).astype(np.int64)

    @property
    def few(self) -> IntArray:
        """The F few-split class ids, ascending."""
        return self.tier("few")

    @property
    def base(self) -> IntArray:
        """The B = C - F class ids that are never changed, ascending."""
        return self.tier("base")

    def describe(self) -> str:
        """One line: thresholds and the number of classes in each split."""
        sizes = ", ".join(f"{len(self.tier(name))} {name}" for name in TIERS)
        return f"{counted(len(self), 'class')}: {sizes} ({self.thresholds} training samples)"

    def require_correctable(self) -> None:
        """Check that there is something to correct, and something to correct it with.

        Raises:
            InputError: If a class has no training sample, or no class is in the few split,
                or none is outside of it.
        """
        if len(self) < FEWEST:
            raise InputError(
                "there are too few classes for one to be corrected by others",
                got=f"{counted(len(self), 'class')}: {some(map(in_list, self.names))}",
                expected="at least three: one that is rare, and two that are not and lend it "
                "their rows",
                todo="give the images (or features) and the head of a model of more classes",
            )
        empty = np.flatnonzero(self.counts == 0)
        if len(empty):
            raise InputError(
                f"{len(empty)} of {len(self)} classes have no training samples",
                got=some(in_list(self.names[i]) for i in empty),
                expected="at least one training sample in every class",
                todo="add samples, or check the class order of the training data",
            )
        if len(self.few) == 0:
            smallest = ", ".join(
                f"{in_list(self.names[i])} {self.counts[i]}" for i in np.argsort(self.counts)[:5]
            )
            raise InputError(
                f"no class has fewer than {self.thresholds.few} training samples",
                got=f"smallest counts: {smallest}",
                expected="at least one few-split class to correct",
                todo=self.threshold_todo("raise"),
            )
        if len(self.base) == 0:
            raise InputError(
                f"every class has fewer than {self.thresholds.few} training samples",
                got=f"largest count: {self.counts.max()}",
                expected="other classes, whose rows correct the few ones",
                todo=self.threshold_todo("lower"),
            )

    def threshold_todo(self, change: str) -> str:
        """What makes some classes rare and leaves two or more, in the words of an error.

        Args:
            change: What is to be done with the threshold: "raise" or "lower".
        """
        counts = np.sort(self.counts)
        lowest, highest = int(counts[0]) + 1, int(counts[-2])
        if lowest > highest:
            return (
                "there is no threshold that makes classes rare and leaves two or more: these data "
                "have no long tail that could be corrected"
            )
        many = self.thresholds.many
        more = f" and {option('many_above', lowest)}" if lowest > many + 1 else ""
        if lowest == highest:
            return f"{change} the threshold: {option('few_below', lowest)}{more}"
        return (
            f"{change} the threshold with {option('few_below', lowest)}{more} (up to {highest} "
            "there are classes on both sides of it)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes; the format of classes.json."""
        return {
            "thresholds": {"few": self.thresholds.few, "many": self.thresholds.many},
            "classes": [
                {"id": i, "name": name, "train": int(count), "split": TIERS[split]}
                for i, (name, count, split) in enumerate(
                    zip(self.names, self.counts, self.tiers, strict=True)
                )
            ],
            **({"labels": dict(self.labels)} if self.labels else {}),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClassTable:
        """Read what `to_dict` gave (the splits follow from counts and thresholds).

        Raises:
            KeyError: If an entry is missing.
            ValueError: If one is of another type.
        """
        classes = typed(list[_Entry], data["classes"], "classes")
        return cls(
            names=tuple(entry.name for entry in classes),
            counts=np.array([entry.train for entry in classes], dtype=np.int64),
            thresholds=typed(Thresholds, data["thresholds"], "thresholds"),
            labels=typed(dict[str, Any], data.get("labels") or {}, "labels"),
        )

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write classes.json."""
        write_json(home_path(path), self.to_dict(), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> ClassTable:
        """Read classes.json.

        Raises:
            FileFormatError: If it is not a class table.
        """
        path = home_path(path)
        with reading(path, "a class table", todo=f"run {call('extract')} again"):
            return cls.from_dict(read_object(path))
