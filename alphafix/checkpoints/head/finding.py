"""Finding the head: taken only when there is no doubt, otherwise the choices are named."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.opening import open_checkpoint
from alphafix.checkpoints.formats.tensors import REAL, Tensor
from alphafix.checkpoints.head.candidates import HeadCandidate, list_candidates
from alphafix.checkpoints.head.stored import effective, read_stored
from alphafix.errors import InputError, option
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


def find_head(
    path: Path,
    *,
    num_classes: int | None = None,
    width: int | None = None,
    name: str | None = None,
    normalised: bool = False,
    factor: float = 1.0,
    scale: float = 1.0,
) -> Head:
    """Find the head in a model file.

    Args:
        path: The file, an index of shards, or a folder (see `open_checkpoint`).
        num_classes: C, if known.
        width: D, if known; for several experts theirs together.
        name: Name of the head's weight or layer as `alphafix inspect` shows it (the end of it
            is enough); for several experts what their names have in common.
        normalised: Whether the model divides each row by its norm when it runs (a file
            cannot say so).
        factor: What the model multiplies the rows by.
        scale: What the model multiplies the logits by.

    Returns:
        The head in effect, with its source.

    Raises:
        InputError: If there is no linear head, or several layers could be it.
        FileFormatError: If the file is damaged.
    """
    checkpoint = open_checkpoint(path)
    chosen = choose(checkpoint, num_classes=num_classes, width=width, name=name)
    kind = "cosine" if normalised and chosen.source.kind == "linear" else chosen.source.kind
    source = replace(
        chosen.source,
        sha256=checkpoint.sha256(),
        kind=kind,
        normalised=normalised,
        factor=factor * chosen.source.factor,
    )
    logger.info("head of %s: %s", checkpoint.path.name, describe(chosen))
    return effective(read_stored(checkpoint, source), source, scale=scale)


def choose(
    checkpoint: Checkpoint,
    *,
    num_classes: int | None = None,
    width: int | None = None,
    name: str | None = None,
) -> HeadCandidate:
    """Return the one candidate that must be the head.

    Raises:
        InputError: If there is none, or more than one.
    """
    candidates = matching(checkpoint, num_classes=num_classes, width=width, name=name)
    if not candidates:
        raise not_found(checkpoint, num_classes, width, name)
    if len(candidates) == 1:
        return candidates[0]
    best = [c for c in candidates if c.likeness is not None]
    best = [c for c in best if c.likeness == best[0].likeness]
    last = best[0] if len(best) == 1 else _plainly_last(best or candidates)
    if last is not None:
        return last
    raise InputError(
        f"{len(candidates)} layers of {checkpoint.path} could be the head",
        got=listing(candidates),
        expected="one",
        todo=f"name it, for example: {option('head', candidates[0].name)}",
    )


def _plainly_last(candidates: list[HeadCandidate]) -> HeadCandidate | None:
    """The last of layers each of which takes what the one before it gives, or None."""
    layers = sorted(candidates, key=lambda candidate: candidate.place)
    pairs = list(itertools.pairwise(layers))
    chained = all(before.num_classes == after.width for before, after in pairs)
    square = layers[-1].num_classes == layers[-1].width  # could be two heads on one body
    return layers[-1] if chained and not square else None


def matching(
    checkpoint: Checkpoint,
    *,
    num_classes: int | None = None,
    width: int | None = None,
    name: str | None = None,
) -> list[HeadCandidate]:
    """The candidates of these sizes and name, as far as they are known; the likeliest first."""
    return [
        candidate
        for candidate in list_candidates(checkpoint, num_classes=num_classes)
        if (width is None or candidate.width == width) and (name is None or called(candidate, name))
    ]


def called(candidate: HeadCandidate, name: str) -> bool:
    """Whether ``name`` (its end is enough) is the candidate's layer or weight."""
    names = {candidate.name, candidate.name.rpartition(".")[0]}
    if len(candidate.source.weights) > 1:
        names |= set(candidate.source.weights)
    return any(own == name or own.endswith("." + name) for own in names)


def describe(candidate: HeadCandidate) -> str:
    """One line: name, shape, element type and kind."""
    experts = len(candidate.source.weights)
    kind = f"{experts} experts" if experts > 1 else candidate.source.kind
    return (
        f"{candidate.name} ({candidate.num_classes} x {candidate.width} {candidate.dtype}, {kind}, "
        f"{'with' if candidate.source.biases else 'no'} bias)"
    )


def listing(candidates: list[HeadCandidate]) -> str:
    """The candidates in one line, at most six."""
    shown = "; ".join(describe(candidate) for candidate in candidates[:6])
    return shown + ("; ..." if len(candidates) > 6 else "")


def not_found(
    checkpoint: Checkpoint, num_classes: int | None, width: int | None, name: str | None
) -> InputError:
    """The error for a file without the head: what it has instead, and the likely cause."""
    everything = list_candidates(checkpoint)
    wanted = f"{num_classes or 'C'} x {width or 'D'}"
    packed = [t for t in checkpoint.tensors if _is_packed(t, num_classes, bool(everything))]
    if packed:
        return InputError(
            f"the head of {checkpoint.path} is quantised, so that it cannot be patched",
            got=", ".join(f"{t.name} ({t.dtype})" for t in packed[:3]),
            expected=f"a layer of {wanted} in {', '.join(REAL)}",
            todo="patch the model before it is quantised, then quantise it again",
        )
    if everything:
        return InputError(
            f"{checkpoint.path} has no linear layer that is the head"
            + (f" {name}" if name is not None else ""),
            got=listing(everything),
            expected=f"a layer of {wanted} (C classes x D features)",
            todo="another C is likely another class list, another D another backbone; give the "
            f"model that the features are from, or name its layer with {option('head')}",
        )
    return InputError(
        f"{checkpoint.path} has no linear head",
        got=f"{len(checkpoint.tensors)} tensors, none of them a matrix",
        expected=f"a matrix of {wanted}",
        todo="give the file that holds the whole classifier",
    )


def _is_packed(tensor: Tensor, num_classes: int | None, others: bool) -> bool:
    """Whether a tensor is likely the head in a quantised form."""
    if tensor.dtype in REAL or len(tensor.shape) != 2:
        return False
    return num_classes in tensor.shape if num_classes is not None else not others
