"""What a file holds that could be its head, with the figures by which a user tells."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.checkpoints.formats.class_names import ClassNames, class_names_in
from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.head.candidates import HeadCandidate
from alphafix.checkpoints.head.finding import choose, matching
from alphafix.checkpoints.head.stored import effective, read_stored
from alphafix.errors import AlphafixError, InputError, on_command_line
from alphafix.files import read_object
from alphafix.remote import origin
from alphafix.values.arrays import FloatArray
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.head import Head

_SETTINGS = "config.json"

# Norms are only read for the layers that could be meant: a large model has hundreds of others.
MOST_SHOWN = 20


@dataclass(frozen=True)
class ShownLayer:
    """A candidate with the figures of the table.

    Attributes:
        candidate: The layer.
        norms: Mean row norm by tier, or only "overall" where the classes are not known.
    """

    candidate: HeadCandidate
    norms: dict[str, float | None]


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        checkpoint: The file.
        shown: The candidates that could be meant, the best first.
        others: Number of candidates that are not shown.
        head: The one that must be the head, or None.
        doubt: Why there is none, or None.
        files: Nothing is written.
    """

    checkpoint: Checkpoint
    shown: tuple[ShownLayer, ...]
    others: int
    head: HeadCandidate | None
    doubt: InputError | None
    files: tuple[Path, ...] = ()

    @property
    def class_names(self) -> ClassNames:
        """Lists of class names in the file, by the entry: where the head is known, of its rows."""
        rows = None if self.head is None else self.head.num_classes
        return class_names_of(self.checkpoint, rows)

    @property
    def own_names(self) -> tuple[str, ...] | None:
        """The class names in the order of the logits; None if there are none, or they differ."""
        return the_same_in_all(self.class_names)

    @property
    def why(self) -> str | None:
        """The doubt in the words of the command line."""
        return None if self.doubt is None else self.doubt.text(on_command_line)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "file": origin(self.checkpoint.path) or str(self.checkpoint.path),
            "format": self.checkpoint.format.name,
            "tensors": len(self.checkpoint.tensors),
            "metadata": dict(self.checkpoint.metadata),
            "head": None if self.head is None else self.head.name,
            "doubt": self.why,
            "class_names": self.own_names,
            "candidates": [
                {
                    "name": item.candidate.name,
                    "num_classes": item.candidate.num_classes,
                    "width": item.candidate.width,
                    "dtype": item.candidate.dtype,
                    **asdict(item.candidate.source),
                    "mean_row_norm": item.norms,
                }
                for item in self.shown
            ],
        }


def class_names_of(checkpoint: Checkpoint, num_classes: int | None) -> ClassNames:
    """Lists of class names in a file by the entry that holds them, of C names where C is given."""
    beside = class_names_in(settings_beside(checkpoint.path))
    found = {
        **checkpoint.class_names,
        **class_names_in(checkpoint.metadata),
        **{f"{_SETTINGS}: {entry}": names for entry, names in beside.items()},
    }
    return {name: names for name, names in found.items() if num_classes in (None, len(names))}


def settings_beside(file: Path) -> dict[str, Any]:
    """What the config.json beside a model file says, as transformers and timm save it; or {}."""
    path = file.parent / _SETTINGS
    with suppress(AlphafixError):  # of another's file nothing is expected
        return read_object(path) if path.is_file() else {}
    return {}


def the_same_in_all(found: ClassNames) -> tuple[str, ...] | None:
    """The class names in the order of the logits; None if there are none, or they differ."""
    lists = {*found.values()}
    return lists.pop() if len(lists) == 1 else None


def inspect_head(
    checkpoint: Checkpoint,
    *,
    num_classes: int | None = None,
    width: int | None = None,
    name: str | None = None,
    known: Head | None = None,
    classes: ClassTable | None = None,
    everything: bool = False,
) -> Inspection:
    """List the layers of a file that could be its head, and take one if there is no doubt.

    Args:
        checkpoint: The file.
        num_classes: C, if known.
        width: D, if known.
        name: Name of the layer, if the user gave it (see `find_head`).
        known: A head whose C and D are taken where neither is given, if a layer has them.
        classes: The classes, for the norms of each tier.
        everything: Whether to show layers that are hardly meant too, such as 1 x 1 convolutions
            in the middle of a model whose last layer has a name that says so.
    """
    candidates = matching(checkpoint, num_classes=num_classes, width=width, name=name)
    if num_classes is None and width is None and known is not None:
        own = matching(checkpoint, num_classes=known.num_classes, width=known.width, name=name)
        if own:
            candidates, num_classes, width = own, known.num_classes, known.width
    head, doubt = None, None
    try:
        head = choose(checkpoint, num_classes=num_classes, width=width, name=name)
    except InputError as error:
        doubt = error
    shown = candidates if everything else _meant(checkpoint, candidates)[:MOST_SHOWN]
    return Inspection(
        checkpoint,
        tuple(ShownLayer(c, _norms(checkpoint, c, classes)) for c in shown),
        len(candidates) - len(shown),
        head,
        doubt,
    )


def _meant(checkpoint: Checkpoint, candidates: list[HeadCandidate]) -> list[HeadCandidate]:
    named = [candidate for candidate in candidates if candidate.likeness is not None]
    plain = [c for c in candidates if len(checkpoint.tensor(c.source.weights[0]).shape) == 2]
    return named or plain or candidates


def _norms(
    checkpoint: Checkpoint, candidate: HeadCandidate, classes: ClassTable | None
) -> dict[str, float | None]:
    source = candidate.source
    try:
        head = effective(read_stored(checkpoint, source), source)
    except InputError:  # NaN or inf: no norm, but still a layer to show
        return {"overall": None}
    norms: FloatArray = np.linalg.norm(head.weight, axis=1)
    found: dict[str, float | None] = {"overall": float(norms.mean())}
    if classes is not None and len(classes) == candidate.num_classes:
        for tier in TIERS:
            members = classes.tier(tier)
            found[tier] = float(norms[members].mean()) if len(members) else None
    return found
