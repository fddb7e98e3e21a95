"""`alphafix inspect`: which layers of a file could be the head."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.checkpoints.formats.opening import open_checkpoint
from alphafix.checkpoints.formats.tensors import Checkpoint
from alphafix.checkpoints.head.candidates import Candidate, list_candidates
from alphafix.checkpoints.head.finding import called, choose
from alphafix.checkpoints.head.layout import effective, read_stored
from alphafix.commands.command import Watch
from alphafix.commands.inspect.options import InspectOptions
from alphafix.errors import InputError
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.arrays import FloatArray
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.head import Head

# Norms are only read for the likeliest layers: a large model has hundreds.
MOST_SHOWN = 20


@dataclass(frozen=True)
class Shown:
    """A candidate with the figures of the table.

    Attributes:
        candidate: The layer.
        norms: Mean row norm by split, or only "overall" where the classes are not known.
    """

    candidate: Candidate
    norms: dict[str, float | None]


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        checkpoint: The file.
        shown: The likeliest candidates, the best first.
        others: Number of candidates that are not shown.
        head: The one that must be the head, or None.
        doubt: Why there is none, or None.
        files: Nothing is written.
    """

    checkpoint: Checkpoint
    shown: tuple[Shown, ...]
    others: int
    head: Candidate | None
    doubt: str | None
    files: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "file": str(self.checkpoint.path),
            "format": self.checkpoint.format,
            "tensors": len(self.checkpoint.tensors),
            "metadata": dict(self.checkpoint.metadata),
            "head": None if self.head is None else self.head.name,
            "doubt": self.doubt,
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


def work(options: InspectOptions, watch: Watch) -> Inspection:
    """List the layers of a file that could be its head, and take one if there is no doubt.

    Raises:
        InputError: If the file is not there.
        FileFormatError: If it is damaged or of no known format.
    """
    run = Run(options.run)
    classes = ClassTable.load(run.path(CLASSES)) if run.has(CLASSES) else None
    known = Head.load(run.path(HEAD)) if run.has(HEAD) else None
    num_classes, width = options.num_classes, options.width
    checkpoint = open_checkpoint(options.file)
    candidates = _matching(checkpoint, num_classes, width, options.head)
    if num_classes is None and width is None and known is not None:
        # A run directory may lie here that has nothing to do with this file.
        own = _matching(checkpoint, known.num_classes, known.width, options.head)
        if own:
            candidates, num_classes, width = own, known.num_classes, known.width
    head, doubt = None, None
    try:
        head = choose(checkpoint, num_classes=num_classes, width=width, name=options.head)
    except InputError as error:
        doubt = str(error)
    shown = candidates[:MOST_SHOWN]
    return Inspection(
        checkpoint,
        tuple(Shown(c, _norms(checkpoint, c, classes)) for c in shown),
        len(candidates) - len(shown),
        head,
        doubt,
    )


def _matching(
    checkpoint: Checkpoint, num_classes: int | None, width: int | None, name: str | None
) -> list[Candidate]:
    return [
        candidate
        for candidate in list_candidates(checkpoint, num_classes=num_classes)
        if (width is None or candidate.width == width) and (name is None or called(candidate, name))
    ]


def _norms(
    checkpoint: Checkpoint, candidate: Candidate, classes: ClassTable | None
) -> dict[str, float | None]:
    source = candidate.source
    try:
        head = effective(read_stored(checkpoint, source), source)
    except InputError:  # NaN or inf: no norm, but still a layer to show
        return {"overall": None}
    norms: FloatArray = np.linalg.norm(head.weight, axis=1)
    found: dict[str, float | None] = {"overall": float(norms.mean())}
    if classes is not None and len(classes) == candidate.num_classes:
        for split in TIERS:
            members = classes.tier(split)
            found[split] = float(norms[members].mean()) if len(members) else None
    return found
