"""Which tensors of a file hold a head that is known: by its source, or by its values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.tensors import ROUNDING
from alphafix.checkpoints.head.candidates import HeadCandidate
from alphafix.checkpoints.head.finding import listing, matching, not_found
from alphafix.checkpoints.head.stored import effective, read_stored
from alphafix.errors import InputError, option
from alphafix.values.arrays import BoolArray, FloatArray
from alphafix.values.head import Head, HeadSource


def match_head(checkpoint: Checkpoint, head: Head, *, name: str | None = None) -> HeadSource:
    """Return where ``head`` is in the file, its values having been compared.

    The tensors that the head was extracted from are taken if the file has them; otherwise
    (arrays of the user's own, or another format than the one that was extracted) all layers
    of the head's shape are compared with it.

    Args:
        checkpoint: The file.
        head: The head that the correction belongs to, C x D.
        name: Name of the layer, to choose among several with the same values.

    Raises:
        InputError: If it is not there (another model, or another class order), or there twice.
    """
    if name is None and head.source is not None and _has(checkpoint, head.source):
        source = replace(head.source, file=checkpoint.path.name)
        if not _differing(checkpoint, source, head).any():
            return source
        raise _mismatch(checkpoint, source, head)
    fitting = matching(checkpoint, num_classes=head.num_classes, width=head.width, name=name)
    if not fitting:
        raise not_found(checkpoint, head.num_classes, head.width, name)
    readings = [_reading(checkpoint, candidate, head) for candidate in fitting]
    found = [reading for reading in readings if reading is not None]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _mismatch(checkpoint, fitting[0].source, head)
    raise InputError(
        f"{len(found)} layers of {checkpoint.path} hold the head's values",
        got=listing(fitting),
        expected="one",
        todo="name the one that the model uses, for example: "
        f"{option('head', found[0].weights[0])}",
    )


def _has(checkpoint: Checkpoint, source: HeadSource) -> bool:
    names = {tensor.name for tensor in checkpoint.tensors}
    scales = () if source.scales is None else (source.scales,)
    return names.issuperset((*source.weights, *source.biases, *scales))


def _reading(checkpoint: Checkpoint, candidate: HeadCandidate, head: Head) -> HeadSource | None:
    for source in _readings(candidate, head):
        if not _differing(checkpoint, source, head).any():
            return source
    return None


def _readings(candidate: HeadCandidate, head: Head) -> Iterator[HeadSource]:
    """The ways in which a model could use the candidate's tensors."""
    plain = candidate.source
    yield plain
    kind = "cosine" if plain.kind == "linear" else plain.kind
    if head.source is not None and (head.source.normalised or head.source.factor != 1):
        known = head.source
        factor = known.factor * plain.factor
        yield replace(plain, kind=known.kind, normalised=known.normalised, factor=factor)
        # An export may have divided by the norms already.
        yield replace(plain, factor=factor)
    elif head.source is None:
        # Rows all of one length are likely of a model that normalises them.
        experts = len(plain.weights)
        norms = np.linalg.norm(np.stack(np.split(head.weight, experts, axis=1)), axis=2)
        factor = float(norms.mean())
        if np.abs(norms - factor).max() < 1e-3 * factor:
            yield replace(plain, kind=kind, normalised=True, factor=factor * experts)


def _differing(checkpoint: Checkpoint, source: HeadSource, head: Head) -> BoolArray:
    """Which of the C rows (or biases) differ by more than the rounding of the file's type."""
    stored = read_stored(checkpoint, source)
    found = effective(stored, source)
    if found.weight.shape != head.weight.shape:
        return np.ones(head.num_classes, dtype=np.bool_)
    rounding = ROUNDING[checkpoint.tensor(source.weights[0]).dtype]
    rows = _apart(found.weight, head.weight, rounding, exact=source.kind == "linear").any(axis=1)
    biases = (found.bias_or_zeros[:, None], head.bias_or_zeros[:, None])
    differing: BoolArray = rows | _apart(*biases, rounding, exact=source.kind == "linear")[:, 0]
    return differing


def _apart(found: FloatArray, wanted: FloatArray, rounding: float, *, exact: bool) -> BoolArray:
    # Twice the error of rounding to nearest admits files that were truncated instead. Scales,
    # norms and means round more than once, relative to the largest value of a row. The
    # constant is the spacing of the smallest float16 numbers.
    bound = 2 * rounding * np.abs(wanted) + 2.0**-24
    if not exact:
        bound = bound + 4 * rounding * np.abs(wanted).max(axis=1, keepdims=True)
    apart: BoolArray = np.abs(found - wanted) > bound
    return apart


def _mismatch(checkpoint: Checkpoint, source: HeadSource, head: Head) -> InputError:
    differing = _differing(checkpoint, source, head)
    count = int(differing.sum())
    found = effective(read_stored(checkpoint, source), source)
    if found.weight.shape != head.weight.shape:
        got = (
            f"{found.num_classes} x {found.width}, the run's head {head.num_classes} x {head.width}"
        )
        cause = "another C is likely another class list, another D another backbone"
    else:
        got = f"{count} of {head.num_classes} rows differ, first: class {np.argmax(differing)}"
        cause = "this is another model, or it has been trained on or patched since"
        ours, theirs = _projected(found, head)
        if _close(ours, theirs):
            got += ", only in the bias" if found.bias is not None else "; no bias was found for it"
            cause = "the layer's bias is another one, or is not in the file"
        elif _close(np.sort(ours), np.sort(theirs)):
            got += "; the same rows are there in another order"
            cause = "the classes are in another order than those of the features"
    return InputError(
        f"the head in {checkpoint.path} is not the one that the correction was made for "
        f"({source.weights[0]})",
        got=got,
        expected="the same values up to the rounding of the file's element type",
        todo=f"{cause}; give the model that the features are from, or run the stages with this one",
    )


def _projected(found: Head, head: Head) -> tuple[FloatArray, FloatArray]:
    # Projections on a random direction tell rows apart, whatever their order.
    direction = np.random.default_rng(0).normal(size=head.width).astype(np.float32)
    return found.weight @ direction, head.weight @ direction


def _close(ours: FloatArray, theirs: FloatArray) -> bool:
    return bool(np.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * np.abs(theirs).mean()))
