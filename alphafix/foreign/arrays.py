"""The user's own arrays: features of some splits, the head that they enter, class names."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphafix.errors import FileFormatError, InputError, call, counted, option, some
from alphafix.features.class_names import ARRAYS, CLASS_NAMES
from alphafix.features.features import FeatureArrays
from alphafix.features.shards import ids_of
from alphafix.files import open_safetensors
from alphafix.reading.boundary import reading
from alphafix.reading.numpy_files import npz_names, read_npz
from alphafix.values.arrays import FloatArray
from alphafix.values.classes import ClassTable, Thresholds
from alphafix.values.head import Head
from alphafix.values.labels import class_counts

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test", "open")


@dataclass(frozen=True)
class Given:
    """What `extract` would have found, from files.

    Attributes:
        head: The head.
        splits: Features by split, "train" among them, all of which fit the head.
        names: C class names, or None for numbers.
        thresholds: Where few and many end.
    """

    head: Head
    splits: Mapping[str, FeatureArrays]
    names: Sequence[str] | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        for split, found in self.splits.items():
            _check(found, split, self.head)

    @property
    def classes(self) -> ClassTable:
        """The class table; training samples are those of the split "train"."""
        labels = self.splits["train"].labels
        counts = class_counts(labels, self.head.num_classes)
        names = self.names or [f"class {i}" for i in range(self.head.num_classes)]
        return ClassTable(tuple(names), counts, self.thresholds)


def split_files(given: tuple[str, ...]) -> dict[str, Path]:
    """Which file holds which split: SPLIT=FILE, or a file of one or several splits."""
    files: dict[str, Path] = {}
    for item in given:
        split, equals, name = item.partition("=")
        if equals and split in SPLITS:
            files[split] = Path(name)
        else:
            for found in _splits_in(Path(item)) or ("train",):
                files[found] = Path(item)
    if "train" not in files:
        raise InputError(
            "there are no training features",
            got=", ".join(files) or "nothing",
            expected="features of the split train, whose class means the neighbours come from",
            todo=f"give {option('features', 'train=FILE')}",
        )
    return files


def _splits_in(path: Path) -> tuple[str, ...]:
    """Splits whose arrays a file names (``train_features``); none if it holds one split."""
    names: Collection[str] = ()
    if path.suffix == ".npz" and path.is_file():
        names = npz_names(path)
    elif path.suffix == ".safetensors":
        with open_safetensors(path) as file:
            names = file.keys()
    known = {f"{split}_features" for split in SPLITS}
    others = sorted(name for name in names if name.endswith("_features") and name not in known)
    if others:
        logger.warning(
            "%s: %s not read; the splits are %s", path.name, some(others), ", ".join(SPLITS)
        )
    return tuple(split for split in SPLITS if f"{split}_features" in names)


# How a head leaves a pickle, which nothing here opens.
_OF_SKLEARN = (
    "a linear model of scikit-learn gives its head in Python: head = "
    "alphafix.checkpoints.head_of(joblib.load(FILE)); numpy.savez('head.npz', weight=head.weight, "
    "bias=head.bias); alphafix.checkpoints.with_correction makes the corrected model"
)


def read_head(path: Path) -> Head:
    """Read ``weight`` (C x D) and ``bias`` (C, if there is one) from .npz or .safetensors.

    Raises:
        FileFormatError: If there is no such array, or one of an unknown name.
        InputError: If their shapes do not fit, or a number is not finite.
    """
    arrays: dict[str, FloatArray] = {}
    if path.suffix not in (".npz", ".safetensors"):
        raise InputError(
            f"{path} is not a file of a head",
            got=path.suffix or "no suffix",
            expected=".npz or .safetensors with `weight` and `bias`",
            todo=_OF_SKLEARN
            if path.suffix in (".joblib", ".pkl", ".pickle")
            else "save the last layer's arrays with safetensors.torch.save_file({'weight': "
            "layer.weight, 'bias': layer.bias}, 'head.safetensors'); a whole model file of any "
            f"format goes to {call('extract', weights=path.name)} and {call('patch')}",
        )
    if path.suffix == ".npz":
        _refuse_unknown(path, npz_names(path))
        arrays = read_npz(path, ("weight", "bias"))
    else:
        with open_safetensors(path) as file, reading(path, "a file of a head"):
            _refuse_unknown(path, file.keys())
            names = [name for name in ("weight", "bias") if name in file.keys()]  # noqa: SIM118
            arrays = {name: file.get_tensor(name).float().numpy() for name in names}
    if "weight" not in arrays:
        raise FileFormatError(
            f"{path} holds no head",
            expected='"weight" (C x D) and, if the layer has one, "bias" (C)',
            todo="save the last layer under these names",
        )
    wrong = [name for name, array in arrays.items() if array.dtype.kind not in "fiu"]
    if wrong:
        raise FileFormatError(
            f"the {wrong[0]} of {path} is no array of numbers",
            got=arrays[wrong[0]].dtype,
            expected="floating-point numbers",
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is found as not finite
        return Head(np.asarray(arrays["weight"], np.float32), arrays.get("bias"))


def _refuse_unknown(path: Path, names: Collection[str]) -> None:
    """Whoever misspells "bias" must not go on without; features may be in the same file."""
    features = {f"{split}_{name}" for split in SPLITS for name in ARRAYS} | {*ARRAYS, CLASS_NAMES}
    unknown = sorted({*names} - {"weight", "bias"} - features)
    if unknown and "weight" in names:
        raise FileFormatError(
            f"{path} holds more than a head",
            got=some(unknown),
            expected="weight and, if the layer has one, bias",
            todo="correct the name, or leave it out",
        )


def read_names(path: Path) -> list[str]:
    """Class names, one a line.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is no text in UTF-8.
    """
    what = "class names in the order of the head, one a line, in UTF-8"
    with reading(path, what, todo="save it as UTF-8"):
        return path.read_text(encoding="utf-8").splitlines()


def _check(found: FeatureArrays, split: str, head: Head) -> None:
    if len(found.labels) == 0:
        raise InputError(
            f"the split {split} holds no samples",
            expected="at least one sample",
            todo="leave the split out, or check its file",
        )
    finite = np.isfinite(found.features).all(axis=1)
    if not finite.all():
        bad = [found.ids[int(i)] for i in np.flatnonzero(~finite)]
        raise InputError(
            f"{counted(len(bad), 'sample')} of the split {split} with features that are not finite",
            got=ids_of(bad),
            expected="finite numbers, no NaN or inf",
            todo="drop these samples, or extract them in float32",
        )
    known = found.labels[found.labels >= 0]
    top = int(known.max(initial=-1)) + 1
    width = int(found.features.shape[1])
    head.require_match(width=width, num_classes=max(top, head.num_classes))
    lowest = -1 if split == "open" else 0
    wrong = found.labels < lowest
    if wrong.any():
        raise InputError(
            f"{counted(int(wrong.sum()), 'label')} of the split {split} out of range",
            got=f"label {found.labels[wrong][0]}",
            expected=f"{lowest}..{head.num_classes - 1}",
            todo="count classes from 0; open-set samples (-1) go into the split open",
        )
