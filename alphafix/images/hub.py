"""Hugging Face data sets: a saved folder, or a name on the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import InputError, MissingPackageError, counted, option
from alphafix.images.data import ImageData
from alphafix.images.fingerprints import Fingerprint, fingerprint_files, stamp
from alphafix.images.labels import Reading, Written
from alphafix.images.source import OPEN, BadImageError, ImageSource, Sample
from alphafix.images.tables import LABEL_COLUMNS
from alphafix.values.arrays import IntArray


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

    def fingerprint(self) -> Fingerprint:
        """Hash of the data set's files, of the image files that it names, and of the labels."""
        files = [entry["filename"] for entry in self.rows.cache_files]
        if not files:  # a data set that lies in memory has a fingerprint of its own
            return Fingerprint(self.rows._fingerprint).with_parts(self.labels)
        found = fingerprint_files(lambda: chain(files, self._image_files()))
        return found.with_parts(str(self.rows.features).encode(), self.labels)

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """Hash of some images and labels."""
        digest = hashlib.sha256(f"{self.split} {index}".encode())
        for i in index:
            content = self.sample(group, i).content
            if isinstance(content, Path):
                digest.update(f"{content} {stamp(content)}".encode())
            else:
                digest.update(content if isinstance(content, bytes) else repr(content).encode())
        labels = self.labels[index.start : index.stop]
        return Fingerprint(digest.hexdigest()).with_parts(labels)

    def _image_files(self) -> Iterator[str]:
        """Image files that the rows name in place of an image's bytes."""
        for part in self.rows.data.column(self.image_key).chunks:
            without = part.field("bytes").is_null()
            yield from (path for path in part.field("path").filter(without).to_pylist() if path)


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
    _read: dict[str, tuple[tuple[str, ...], IntArray]] = field(
        default_factory=dict, repr=False, compare=False
    )

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

    def there(self) -> tuple[str, ...]:
        """The data set's names of its splits."""
        return tuple(self._splits)

    def beside(self, name: str) -> str | None:
        """A split and its size."""
        return f"the split {name} ({counted(len(self._splits[name]), 'row')})"

    def place(self, name: str) -> str:
        """The data set and the split."""
        return f"hf:{self.name} ({name})"

    def written(self, name: str, *, whole: bool = False) -> Written:
        """Names of a ClassLabel, or what else the column of labels holds."""
        values, _ = self._labels(name)
        column = self._label_key(self._splits[name])
        names = self._names(name)
        if names is None:
            return Written(values, f"values of the column {column}")
        return Written(names, f"ClassLabel of the column {column}", named=True, numbered=True)

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """The images of a split."""
        import datasets

        rows = self._splits[name]
        image = self._image_key(rows)
        if reading is None:
            labels = np.full(len(rows), OPEN, dtype=np.int64)
        else:
            values, index = self._labels(name)
            labels = reading.table(values)[index]
        encoded = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        return HubSource(encoded, image, labels, split)

    def _names(self, name: str) -> tuple[str, ...] | None:
        rows = self._splits[name]
        names = getattr(rows.features[self._label_key(rows)], "names", None)
        return None if names is None else tuple(names)

    def _labels(self, name: str) -> tuple[tuple[str, ...], IntArray]:
        """The different labels as texts, and which of them each row has, int64 of shape N.

        Raises:
            InputError: If a row has no label, or labels are neither whole numbers nor texts.
        """
        if name not in self._read:
            self._read[name] = self._read_labels(name)
        return self._read[name]

    def _read_labels(self, name: str) -> tuple[tuple[str, ...], IntArray]:
        rows = self._splits[name]
        column = self._label_key(rows)
        labels = rows[column][:]
        names = self._names(name)
        none = [i for i, label in enumerate(labels) if label is None or (names and label < 0)]
        if none:
            raise InputError(
                f"{len(none)} of {len(labels)} rows of the split {name} have no label",
                got=f"{labels[none[0]]} in row {none[0]} of the column {column}",
                expected="a class in each row",
                todo=f"name the splits that have labels, {option('split', 'train,val')}, or take "
                "these rows out",
            )
        wrong = next((label for label in labels if type(label) not in (int, str, bool)), None)
        if wrong is not None:
            raise InputError(
                f"the column {column} of the split {name} holds no labels",
                got=repr(wrong)[:80],
                expected="whole numbers or texts",
                todo=f"name another column with {option('label_key')}",
            )
        # Python's own set: integers and texts are not put in order.
        values = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        texts = [str(v) if names is None else names[v] for v in values]
        return tuple(texts), np.array([values[label] for label in labels], dtype=np.int64)

    def _image_key(self, rows: Any) -> str:
        kinds = [name for name, kind in rows.features.items() if type(kind).__name__ == "Image"]
        return _only(kinds, self.image_key, list(rows.features), "images", "image_key")

    def _label_key(self, rows: Any) -> str:
        kinds = [name for name, k in rows.features.items() if type(k).__name__ == "ClassLabel"]
        kinds = kinds or [name for name in rows.features if name.lower() in LABEL_COLUMNS]
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
