"""What the user's own code gives for some images, held against the model as it was rebuilt.

A proof within alphafix cannot tell that the model is made otherwise than the user's (another
pooling, another scale of the input): only an answer from outside can.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import FileFormatError, InputError, counted, option, some
from alphafix.values.arrays import FloatArray, IntArray

logger = logging.getLogger(__name__)

# Largest difference of logits, relative to the largest: other decoders and versions of libraries
# stay below it, another interpolation, pooling or normalisation does not.
DIFFERENCE = 0.02
# Part of the images whose class may be another one (near ties), and points of accuracy.
OTHERS, POINTS = 0.01, 0.2

_IDS = ("id", "ids", "image", "path", "file", "filename")
_PREDICTED = ("predicted", "prediction", "class", "label")


@dataclass(frozen=True)
class Answers:
    """What the user's code gave.

    Attributes:
        file: Where that is written.
        ids: The N images, or None for the first N of the split, in its order.
        logits: N x C, or None.
        predicted: N classes, by number or name, or None.
        accuracy: Top-1 accuracy of the whole split in percent, or None.
        split: The split, or "" if it is not said.
    """

    file: Path
    ids: tuple[str, ...] | None = None
    logits: FloatArray | None = None
    predicted: tuple[str, ...] | None = None
    accuracy: float | None = None
    split: str = ""

    @property
    def count(self) -> int:
        """N."""
        given = self.logits if self.logits is not None else self.predicted
        return 0 if given is None else len(given)


@dataclass(frozen=True)
class Part:
    """Some images of the split, in its order.

    Attributes:
        ids: Their ids.
        labels: Their classes.
        logits: N x C, of the model as it was rebuilt.
    """

    ids: Sequence[str]
    labels: IntArray
    logits: FloatArray


def read_answers(file: Path) -> Answers:
    """Read an .npz, .csv or .json file.

    Arrays, columns or entries are ``ids`` (or ``image``, ``path``), with ``logits`` (in a CSV: a
    column a class) or ``predicted``; or ``accuracy`` in percent, with ``split``.

    Raises:
        InputError: If it is not there.
        FileFormatError: If it says nothing of the kind.
    """
    if not file.is_file():
        raise InputError(f"{file} is not there", todo=f"correct {option('check')}")
    try:
        data = {".npz": _read_npz, ".json": _read_json}.get(file.suffix, _read_csv)(file)
        found = _answers(file, data)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise _unreadable(file, str(error)) from error
    if found.count == 0 and found.accuracy is None:
        raise _unreadable(file, f"names {some(data)}")
    if found.ids is not None and len(found.ids) != found.count:
        raise _unreadable(
            file, f"{counted(len(found.ids), 'id')} for {counted(found.count, 'image')}"
        )
    return found


def _unreadable(file: Path, got: str) -> FileFormatError:
    return FileFormatError(
        f"{file} does not say what the model gives",
        got=got,
        expected="ids with logits (N x C) or predicted classes, or the accuracy of a split in "
        "percent, as .npz, .csv or .json",
        todo="write it with the code that evaluates your model: "
        "numpy.savez(FILE, ids=paths, logits=logits)",
    )


def _read_npz(file: Path) -> Mapping[str, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_json(file: Path) -> Mapping[str, Any]:
    data = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise TypeError(f"a {type(data).__name__}")
    return data


def _read_csv(file: Path) -> Mapping[str, Any]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        header, *rows = [row for row in csv.reader(text) if row]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    known = {name: columns.pop(name) for name in header if name in (*_IDS, *_PREDICTED)}
    if columns and not known.keys() & set(_PREDICTED):
        known["logits"] = tuple(zip(*columns.values(), strict=True))
    return known


def _answers(file: Path, data: Mapping[str, Any]) -> Answers:
    ids = next((data[name] for name in _IDS if name in data), None)
    predicted = next((data[name] for name in _PREDICTED if name in data), None)
    accuracy, split = data.get("accuracy"), str(data.get("split", ""))
    if isinstance(accuracy, Mapping):
        ((split, accuracy),) = accuracy.items()
    logits = data.get("logits")
    return Answers(
        file,
        None if ids is None else tuple(map(str, ids)),
        None if logits is None else np.asarray(logits, dtype=np.float32),
        None if predicted is None else tuple(map(str, predicted)),
        None if accuracy is None else float(accuracy),
        split,
    )


def check(answers: Answers, parts: Iterable[Part], names: tuple[str, ...] | None) -> str:
    """Hold a model against the answers.

    Args:
        answers: What it must give.
        parts: What it gives, for all images of the split in order; read as far as is needed.
        names: The class names in the order of the logits, if they are known.

    Returns:
        What agreed, in words.

    Raises:
        InputError: If it gives something else, or an image is not there.
    """
    found: dict[int, FloatArray] = {}
    right = total = 0
    wanted = _by_name(answers)
    for part in parts:
        for row, name in enumerate(part.ids):
            place = total + row if answers.ids is None else _place(wanted, str(name))
            if place is not None and place < answers.count:
                found[place] = part.logits[row]
        right += int((part.logits.argmax(axis=1) == part.labels).sum())
        total += len(part.labels)
        if answers.accuracy is None and len(found) == answers.count:
            break
    missing = [place for place in range(answers.count) if place not in found]
    if missing:
        raise InputError(
            f"{answers.file} names images that are not in the split",
            got=some(answers.ids[place] for place in missing)
            if answers.ids
            else f"{counted(total, 'image')}",
            expected=f"{counted(answers.count, 'image')} of it, by their paths or ids",
            todo="correct the ids, or say the split in the file",
        )
    ours = np.stack([found[place] for place in range(answers.count)]) if found else None
    differences = [
        *_logits(answers, ours),
        *_classes(answers, ours, names),
        *_accuracy(answers, 100 * right / max(total, 1), total),
    ]
    wrong = [text for text, fine in differences if not fine]
    if wrong:
        raise InputError(
            "the model as it was rebuilt does not give what your code gave",
            got="; ".join(wrong),
            expected=f"what {answers.file} says",
            todo=f"say what the model was made with ({option('model_arg')}), how its images are "
            f"prepared ({option('image_size')}, {option('crop_pct')}, {option('interpolation')}, "
            f"{option('mean')}, {option('std')}), and which weights it loads ({option('section')})",
        )
    told = "; ".join(text for text, _ in differences)
    logger.info("checked against %s: %s", answers.file.name, told)
    return told


def _by_name(answers: Answers) -> dict[str, list[tuple[str, int]]]:
    """The images in the answers, by the last part of their ids."""
    found: dict[str, list[tuple[str, int]]] = {}
    for place, name in enumerate(answers.ids or ()):
        found.setdefault(name.rpartition("/")[2], []).append((name, place))
    return found


def _place(wanted: Mapping[str, list[tuple[str, int]]], name: str) -> int | None:
    """Where an image is in the answers, which may name it with more folders."""
    for own, place in wanted.get(name.rpartition("/")[2], ()):
        if own == name or own.endswith("/" + name):
            return place
    return None


Difference = tuple[str, bool]
"""What was compared, in words, and whether it agrees."""


def _logits(answers: Answers, ours: FloatArray | None) -> Iterable[Difference]:
    if answers.logits is None or ours is None:
        return
    theirs = answers.logits
    if theirs.shape != ours.shape:
        yield f"logits of shape {theirs.shape}, the model's {ours.shape}", False
        return
    apart = float(np.abs(theirs - ours).max() / max(float(np.abs(theirs).max()), 1e-12))
    text = f"logits of {counted(len(theirs), 'image')} differ by up to {apart:.1e} of the largest"
    yield text, apart <= DIFFERENCE


def _classes(
    answers: Answers, ours: FloatArray | None, names: tuple[str, ...] | None
) -> Iterable[Difference]:
    if answers.predicted is None or ours is None:
        return
    chosen = ours.argmax(axis=1)
    same = [
        theirs in (str(own), names[own] if names else None)
        for theirs, own in zip(answers.predicted, chosen.tolist(), strict=True)
    ]
    text = f"{sum(same)} of {len(same)} predicted classes are the same"
    yield text, len(same) - sum(same) <= OTHERS * len(same)


def _accuracy(answers: Answers, ours: float, total: int) -> Iterable[Difference]:
    if answers.accuracy is None:
        return
    text = f"accuracy {ours:.2f}% of {counted(total, 'image')}, yours {answers.accuracy:g}%"
    yield text, abs(ours - answers.accuracy) <= max(POINTS, 100 / max(total, 1))
