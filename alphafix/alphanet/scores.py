"""Base-model scores of samples, reduced to what the objective needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.alphanet.padding import room
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.head import Head

# Bytes of logits computed at a time: large enough for efficient products, small beside
# everything else that is held.
CHUNK_BYTES = 64 << 20

# Samples in one product. Products of fewer samples are summed in another order, so that a sample's
# scores, and with them a trial, would depend on what other samples are read: all are filled up.
PRODUCT_ROWS = 1024

# The same of those whose scores are computed in each step, whose number is a multiple of this.
STEP_ROWS = 64


@dataclass(frozen=True)
class ScoreLayout:
    """Which of the C classes appear where in the reduced scores.

    Attributes:
        few: The F few-split class ids, int64, ascending.
        base: The B other class ids, int64, ascending.
        columns: The U class ids whose scores are kept: the few-split classes first (padded,
            as in `padding`, by repeating the first), then every class that is a neighbour of
            one, int64.
    """

    few: IntArray
    base: IntArray
    columns: IntArray

    @classmethod
    def of(cls, num_classes: int, few: IntArray, neighbors: IntArray) -> ScoreLayout:
        """Lay out C classes for the given few-split ids and neighbour ids (any shape)."""
        base = np.setdiff1d(np.arange(num_classes, dtype=np.int64), few)
        repeated = np.repeat(few[:1], room(len(few)))
        columns = np.concatenate([few, repeated, np.setdiff1d(np.unique(neighbors), few)])
        return cls(few=few, base=base, columns=columns.astype(np.int64))

    def positions(self, classes: IntArray) -> IntArray:
        """Where each of ``classes`` stands in ``columns``, same shape."""
        where = np.full(int(self.columns.max()) + 1, -1, dtype=np.int64)
        where[self.columns] = np.arange(len(self.columns))
        return where[classes]


@dataclass(frozen=True)
class Columns:
    """Scores s = W x of n samples for the U kept classes: a table, or computed when asked.

    Where the table would be more than the memory budget, the n x D features are kept
    instead and multiplied for the rows that are asked for.

    Attributes:
        table: float32 of shape n x U (U x n if ``class_major``), or None.
        features: float32 of shape n x D, or None.
        weight: Rows of the kept classes, float32 of shape U x D.
        class_major: Training gathers samples, validation sweeps over classes; each has the
            layout that reads memory in order.
    """

    table: Tensor | None
    features: Tensor | None
    weight: Tensor
    class_major: bool

    def of_samples(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """Scores of the samples ``index`` (any shape), float32 of shape index.shape x U.

        They are written to ``out``, of their shape, if it is given.
        """
        if self.features is not None:
            rows = self.features[index.flatten()]
            scores = rows.new_empty(len(rows), len(self.weight)) if out is None else out
            _products(rows, self.weight, STEP_ROWS, out=scores.view(len(rows), -1))
            return scores.view(*index.shape, -1)
        if self.table is None or self.class_major:
            raise ValueError("these columns are not kept by sample")
        # Several times as fast as indexing.
        flat = None if out is None else out.view(index.numel(), -1)
        found = torch.index_select(self.table, 0, index.flatten(), out=flat)
        return found.view(*index.shape, -1)

    def by_class(self, place: slice) -> Tensor:
        """Scores of the samples ``place``, float32 of shape U x m."""
        if self.features is not None:
            return self.weight @ self.features[place].T
        if self.table is None or not self.class_major:
            raise ValueError("these columns are not kept by class")
        return self.table[:, place]


@dataclass(frozen=True)
class Scores:
    """n samples as the objective sees them.

    Attributes:
        labels: Class ids, int64 of shape n.
        few_label: Position of the label among the few-split classes, or -1, int64, n.
        own: z_y of base samples (0 for few-split ones), float32, n.
        base_lse: L, the logsumexp of z over the base classes, float32, n.
        base_max: The largest z over the base classes, float32, n.
        base_argmax: The base class that has it, int64, n.
        columns: Scores without bias of the kept classes.
    """

    labels: Tensor
    few_label: Tensor
    own: Tensor
    base_lse: Tensor
    base_max: Tensor
    base_argmax: Tensor
    columns: Columns

    def __len__(self) -> int:
        return len(self.labels)


def join_scores(parts: Sequence[Scores]) -> tuple[Scores, list[int]]:
    """Scores of the same samples by several heads as those of one set of samples.

    Args:
        parts: One for each of T trials, the same object for those of one head; tables by sample,
            if there are several.

    Returns:
        The scores, and where those of each trial begin among them.

    Raises:
        ValueError: If several are no such tables.
    """
    different = list({id(one): one for one in parts}.values())
    starts, start = {}, 0
    for one in different:
        starts[id(one)] = start
        start += len(one)
    if len(different) == 1:
        return different[0], [0] * len(parts)
    tables = [one.columns.table for one in different if not one.columns.class_major]
    known = [table for table in tables if table is not None]
    if len(known) < len(different):
        raise ValueError("scores of several heads are joined as tables by sample only")
    names = ("labels", "few_label", "own", "base_lse", "base_max", "base_argmax")
    joined = {name: torch.cat([getattr(one, name) for one in different]) for name in names}
    columns = replace(different[0].columns, table=torch.cat(known))
    return Scores(**joined, columns=columns), [starts[id(one)] for one in parts]


def bytes_of_table(samples: int, layout: ScoreLayout) -> int:
    """Bytes of the n x U table of scores."""
    return 4 * samples * len(layout.columns)


def table_of(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Float32 memory, not yet written; on a CPU in large pages, where the system gives them.

    NumPy asks for these. Rows that are gathered from all over a table are then found twice as fast.
    """
    if device.type != "cpu":
        return torch.empty(shape, device=device)
    return torch.from_numpy(np.empty(shape, dtype=np.float32))


def _products(rows: Tensor, weight: Tensor, size: int, out: Tensor) -> None:
    """Write rows (n x D) times weights (C x D) to ``out``, ``size`` rows at a time.

    The last ones are filled up with zeros, so that how a row's are rounded does not depend on how
    many others there are.
    """
    for start in range(0, len(rows), size):
        some, place = rows[start : start + size], out[start : start + size]
        if len(some) == size:
            torch.mm(some, weight.T, out=place)
        else:
            filled = functional.pad(some, (0, 0, 0, size - len(some)))
            place.copy_((filled @ weight.T)[: len(some)])


def reduce_scores(
    chunks: Iterable[tuple[FloatArray, IntArray]],
    samples: int,
    head: Head,
    layout: ScoreLayout,
    *,
    device: torch.device,
    memory: int,
    own: FloatArray | None = None,
    class_major: bool = False,
) -> Scores:
    """Multiply features once by the head and keep what the objective needs.

    Args:
        chunks: Features (float32, m x D) and labels (int64, m) in order; read once.
        samples: n, the number of rows in all chunks together.
        head: The base model's head; its logit scale is part of z and s.
        layout: Which scores to keep.
        device: Where to compute and keep them.
        memory: Bytes that the table of scores may take; above, features are kept.
        own: Rows that are no class's, whose ids follow those of the C classes, float32, F x D.
        class_major: Layout of the table (see `Columns`).
    """
    rows_of_all = head.weight if own is None else np.concatenate([head.weight, own])
    weight = torch.from_numpy(rows_of_all * np.float32(head.scale)).to(device)
    bias = torch.from_numpy(head.bias_or_zeros * np.float32(head.scale)).to(device)
    as_table = bytes_of_table(samples, layout) <= memory
    keep = torch.from_numpy(layout.columns).to(device)
    out = _Collector(samples, head, layout, device, as_table=as_table, class_major=class_major)
    rows = max(1, CHUNK_BYTES // (4 * head.num_classes))
    for features, labels in chunks:
        for start in range(0, len(features), rows):
            x = torch.from_numpy(features[start : start + rows]).to(device)
            y = torch.from_numpy(labels[start : start + rows]).to(device)
            scores = x.new_empty(len(x), len(weight))
            _products(x, weight, min(PRODUCT_ROWS, rows), out=scores)
            kept = scores.index_select(1, keep) if as_table else x
            out.add(kept, scores[:, : head.num_classes].add_(bias), y)
    return out.finish(weight[keep])


class _Collector:
    """Fills preallocated arrays chunk by chunk, so that nothing is held twice."""

    def __init__(
        self,
        samples: int,
        head: Head,
        layout: ScoreLayout,
        device: torch.device,
        *,
        as_table: bool,
        class_major: bool,
    ) -> None:
        self.as_table, self.class_major = as_table, class_major
        self.few = torch.from_numpy(layout.few).to(device)
        self.few_position = torch.full((head.num_classes,), -1, device=device)
        self.few_position[self.few] = torch.arange(len(self.few), device=device)
        width = len(layout.columns) if as_table else head.width
        turned = as_table and class_major
        shape = (width, samples) if turned else (samples, width)
        self.stored = table_of(shape, device)
        self.kept = self.stored.T if turned else self.stored
        self.numbers = torch.empty(3, samples, device=device)  # own, logsumexp, max
        self.labels = torch.empty(samples, dtype=torch.int64, device=device)
        self.argmax = torch.empty(samples, dtype=torch.int64, device=device)
        self.filled = 0

    def add(self, kept: Tensor, logits: Tensor, labels: Tensor) -> None:
        place = slice(self.filled, self.filled + len(labels))
        self.kept[place] = kept
        self.labels[place] = labels
        self.numbers[0, place] = logits.gather(1, labels[:, None])[:, 0]
        logits[:, self.few] = -torch.inf  # what is left are the base classes
        self.numbers[1, place] = logits.logsumexp(1)
        self.numbers[2, place], self.argmax[place] = logits.max(1)
        self.filled += len(labels)

    def finish(self, weight: Tensor) -> Scores:
        few_label = self.few_position[self.labels]
        own = torch.where(few_label < 0, self.numbers[0], torch.zeros_like(self.numbers[0]))
        columns = Columns(
            table=self.stored if self.as_table else None,
            features=None if self.as_table else self.stored,
            weight=weight,
            class_major=self.class_major,
        )
        return Scores(
            labels=self.labels,
            few_label=few_label,
            own=own,
            base_lse=self.numbers[1],
            base_max=self.numbers[2],
            base_argmax=self.argmax,
            columns=columns,
        )
