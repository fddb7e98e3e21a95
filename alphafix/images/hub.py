"""Hugging Face data sets: a saved folder, or a name on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import InputError, MissingPackageError, option
from alphafix.images.data import ClassNames, ImageData
from alphafix.images.source import OPEN, BadImageError, ImageSource, Sample, sha256
from alphafix.values.arrays import IntArray

# The hub's names of our splits.
_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}


@dataclass(frozen=True)
class HubSource(ImageSource):
    """Rows of a Hugging Face data set.

    Attributes:
        rows: The data set (memory-mapped), images not decoded.
        image_key: Column of the images.
        labels: int64 of shape N.
        split: Name of the split.
    """

    rows: Any
    image_key: str
    labels: IntArray
    split: str

    def size(self, group: int) -> int:
        """N."""
        return len(self.labels)

    def sample(self, group: int, index: int) -> Sample:
        """Read one row."""
        image = self.rows[index][self.image_key]
        name, label = f"{self.split}/{index}", int(self.labels[index])
        if image["bytes"] is not None:
            return Sample(name, label, image["bytes"])
        if image["path"] is not None:
            return Sample(name, label, Path(image["path"]))
        return Sample(name, label, BadImageError("the row has no image"))

    @property
    def known_labels(self) -> IntArray:
        """All labels."""
        return self.labels

    def fingerprint(self) -> str:
        """Hash of columns and labels."""
        return sha256(str(self.rows.features).encode(), self.labels)


@dataclass(frozen=True)
class HubData(ImageData):
    """A Hugging Face data set with its splits.

    Attributes:
        name: A folder that `save_to_disk` wrote, or a name on the hub.
        image_key: Column of the images, if the user gave it.
        label_key: Column of the labels, if the user gave it.
    """

    name: str
    image_key: str | None = None
    label_key: str | None = None

    @cached_property
    def _splits(self) -> dict[str, Any]:
        try:
            import datasets
        except ImportError as error:
            raise MissingPackageError(
                "Hugging Face data sets need datasets, which is not installed",
                todo="pip install 'alphafix[hf]'",
            ) from error
        try:
            on_disk = Path(self.name).is_dir() and any(
                (Path(self.name) / mark).is_file() for mark in ("dataset_dict.json", "state.json")
            )
            found = (
                datasets.load_from_disk(self.name) if on_disk else datasets.load_dataset(self.name)
            )
        except Exception as error:  # datasets raises errors of many packages
            raise InputError(
                f"the data set hf:{self.name} cannot be opened",
                got=str(error).splitlines()[0] if str(error) else repr(error),
                expected="a folder that save_to_disk wrote, or a name on the hub",
                todo=f"correct {option('data')}; a name needs a network",
            ) from error
        return dict(found) if isinstance(found, dict) else {"train": found}

    def _rows(self, split: str) -> Any:
        for name in _NAMES.get(split, (split,)):
            if name in self._splits:
                return self._splits[name]
        return None

    def has(self, split: str) -> bool:
        """Whether there is such a split."""
        return self._rows(split) is not None

    def class_names(self, split: str) -> ClassNames | None:
        """Names of the classes, in the data set's own order."""
        rows = self._rows(split)
        names = getattr(rows.features[self._label_key(rows)], "names", None)
        return None if names is None else ClassNames(tuple(names), numbered=True)

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """The images of a split."""
        import datasets

        rows = self._rows(split)
        image = self._image_key(rows)
        if split == "open":
            labels = np.full(len(rows), OPEN, dtype=np.int64)
        else:
            labels = np.asarray(rows[self._label_key(rows)][:], dtype=np.int64)
        encoded = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        return HubSource(encoded, image, labels, split)

    def _image_key(self, rows: Any) -> str:
        kinds = [name for name, kind in rows.features.items() if type(kind).__name__ == "Image"]
        return _only(kinds, self.image_key, list(rows.features), "images", "image_key")

    def _label_key(self, rows: Any) -> str:
        kinds = [name for name, k in rows.features.items() if type(k).__name__ == "ClassLabel"]
        kinds = kinds or [name for name in ("label", "labels") if name in rows.features]
        return _only(kinds, self.label_key, list(rows.features), "labels", "label_key")


def _only(found: list[str], wanted: str | None, columns: list[str], what: str, keyword: str) -> str:
    chosen = [wanted] if wanted is not None and wanted in columns else found
    if (wanted is not None and wanted not in columns) or len(chosen) != 1:
        raise InputError(
            f"which column holds the {what} is not certain",
            got=f"{wanted!r}"
            if wanted is not None
            else f"{', '.join(found) or 'none'} of that kind",
            expected=f"one of {', '.join(columns)}",
            todo=f"name it with {option(keyword)}",
        )
    return chosen[0]
