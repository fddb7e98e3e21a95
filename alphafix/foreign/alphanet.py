"""The folders of AlphaNet's authors: split files, pickled features and a head."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.checkpoints.formats.torch_format import load_torch
from alphafix.errors import FileFormatError, InputError, option
from alphafix.features.features import FeatureArrays
from alphafix.foreign.pickles import read_pickled_features, require_allowed
from alphafix.reading.boundary import reading
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import TIERS, Thresholds
from alphafix.values.head import Head, HeadSource

# Heads of heads of heads would be a circle.
_MOST_COMBINED = 3
_MOST_PARTS = 100


@dataclass(frozen=True)
class Folder:
    """A dataset folder.

    Attributes:
        features: Pickled features by split, one file or several parts.
        classifier: The head's file.
        splits: Class ids of few, medium and many, where the folder says so.
    """

    features: dict[str, tuple[Path, ...]]
    classifier: Path
    splits: dict[str, tuple[int, ...]]

    @property
    def files(self) -> list[Path]:
        """All files that matter, for provenance."""
        return [self.classifier, *(file for files in self.features.values() for file in files)]


def open_folder(folder: Path, name: str | None) -> Folder:
    """Find the files of a dataset folder.

    Args:
        folder: Has ``features/NAME/{train,val,test}*.pkl``, ``classifiers/NAME.pth`` and
            ``splits/{few,medium,many}.txt``.
        name: NAME, needed where there are several.

    Raises:
        InputError: If a part is missing, or NAME is not certain.
    """
    names = sorted(path.stem for path in (folder / "classifiers").glob("*.pth"))
    known = [one for one in names if (folder / "features" / one).is_dir()]
    chosen = name or (known[0] if len(known) == 1 else None)
    if chosen is None or chosen not in known:
        raise InputError(
            f"{folder} has {len(known)} models with features" + (f", none {name}" if name else ""),
            got=", ".join(known) or "no features/NAME beside a classifiers/NAME.pth",
            expected="features/NAME/train*.pkl and classifiers/NAME.pth",
            todo=f"name one with {option('name')}" if known else "give the dataset folder itself",
        )
    place = folder / "features" / chosen
    found = {s: tuple(sorted(place.glob(f"{s}*.pkl"))) for s in ("train", "val", "test")}
    if not found["train"]:
        raise InputError(f"{place} has no train*.pkl", expected="features of the training split")
    splits = {s: folder / "splits" / f"{s}.txt" for s in TIERS}
    return Folder(
        {split: files for split, files in found.items() if files},
        folder / "classifiers" / f"{chosen}.pth",
        {split: _class_ids(path) for split, path in splits.items() if path.is_file()},
    )


def _class_ids(path: Path) -> tuple[int, ...]:
    with reading(path, "a list of class ids, one a line"):
        return tuple(int(line) for line in path.read_text(encoding="utf-8").split())


def read_features(folder: Folder, *, allowed: bool) -> dict[str, FeatureArrays]:
    """Read the features of all splits, the parts of each in the order of their names.

    Raises:
        InputError: If pickles were not allowed.
        FileFormatError: If one is damaged, refused, or holds no features.
    """
    for files in folder.features.values():
        require_allowed(files[0], allowed=allowed)
    return {
        split: _joined([read_pickled_features(file, allowed=allowed) for file in files])
        for split, files in folder.features.items()
    }


def _joined(parts: list[FeatureArrays]) -> FeatureArrays:
    if len(parts) == 1:
        return parts[0]
    return FeatureArrays.read(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(name for part in parts for name in part.ids),
    )


def read_head(path: Path, *, scale: float = 1.0) -> Head:
    """Read ``classifiers/NAME.pth``: ``weight`` C x D and ``bias``, or a list of such heads.

    A list stands for experts: their rows are concatenated and divided by their number E, and
    their biases averaged.

    Args:
        path: The file.
        scale: What the model multiplies the logits by.

    Raises:
        FileFormatError: If it is damaged, refused by weights_only, or no such head.
    """
    weight, bias = _linear(path, 0)
    # Only a single head can be found again in the file, for patching.
    source = None
    if isinstance(load_torch(path), Mapping):
        biases = () if bias is None else ("bias",)
        source = HeadSource(file=path.name, sha256="", weights=("weight",), biases=biases)
    return Head(weight, bias, scale=scale, source=source)


def _linear(path: Path, depth: int) -> tuple[FloatArray, FloatArray | None]:
    data: Any = load_torch(path)
    if isinstance(data, list) and data and depth < _MOST_COMBINED:
        parts = [_linear(_named(path, item), depth + 1) for item in data[:_MOST_PARTS]]
        with reading(path, "a list of heads of the same classes"):
            if len(data) > _MOST_PARTS:
                raise ValueError(f"{len(data)} heads, at most {_MOST_PARTS} are read")
            weight = np.concatenate([part[0] for part in parts], axis=1)
        weight /= len(parts)
        biases = [part[1] for part in parts if part[1] is not None]
        return weight, np.mean(biases, axis=0, dtype=np.float32) if biases else None
    if not isinstance(data, Mapping) or "weight" not in data:
        raise FileFormatError(
            f"{path} holds no head",
            got=", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__,
            expected='"weight" (C x D) and "bias" (C, or None)',
        )
    with reading(path, 'a head: tensors "weight" (C x D) and "bias" (C, or None)'):
        bias = data.get("bias")
        arrays = data["weight"].float().numpy(), None if bias is None else bias.float().numpy()
        shapes = [array.ndim for array in arrays if array is not None]
        if shapes not in ([2], [2, 1]):
            raise ValueError(f"arrays of {shapes} axes")
        return arrays


def _named(path: Path, item: Any) -> Path:
    if not isinstance(item, Mapping) or not isinstance(item.get("classifier_file"), str):
        raise FileFormatError(
            f"{path} holds a list of something else than heads",
            got=reprlib.repr(item),
            expected='entries with "classifier_file"',
        )
    return path.parent / str(item["classifier_file"])


def thresholds_of(folder: Folder, counts: IntArray) -> Thresholds:
    """The thresholds that give the folder's splits; the usual ones where they do.

    Args:
        folder: The folder.
        counts: Training samples of each class, int64 of shape C.

    Raises:
        InputError: If no thresholds on the training counts give these splits.
    """
    if set(folder.splits) != set(TIERS):
        return Thresholds()
    wrong = [c for ids in folder.splits.values() for c in ids if not 0 <= c < len(counts)]
    if wrong:
        raise InputError(
            "the split files name class ids that the head does not have",
            got=f"class {wrong[0]}",
            expected=f"0..{len(counts) - 1}",
            todo="check that the split files belong to this head",
        )
    sizes = {split: counts[list(ids)] for split, ids in folder.splits.items()}
    few = int(sizes["few"].max(initial=0))
    many = int(sizes["many"].min(initial=int(counts.max()) + 1))
    medium = sizes["medium"]
    usual = Thresholds()
    for found in (usual, Thresholds(few=few + 1, many=max(many - 1, few))):
        fits = few < found.few and many > found.many
        if fits and (medium >= found.few).all() and (medium <= found.many).all():
            return found
    raise InputError(
        "the split files do not follow from the training counts",
        got=f"few up to {few}, medium {medium.min(initial=0)} to {medium.max(initial=0)}, "
        f"many from {many} training samples",
        expected="few below medium below many",
        todo="check that the split files belong to these features",
    )
