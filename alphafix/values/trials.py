"""The trained trials behind a correction of AlphaNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alphafix.reading.schema import typed
from alphafix.values.arrays import Array, FloatArray, IntArray
from alphafix.values.head import Head


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a trial.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss of its steps.
        val_overall: Share of validation samples predicted correctly, or None where that was
            not measured.
    """

    epoch: int
    loss: float
    val_overall: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data, without what was not measured."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class TrialRecord:
    """What distinguishes a trial, and what became of it.

    Attributes:
        rho: Base samples a few-split sample.
        k: K.
        seed: Decides the initial network, the samples and random neighbours.
        epoch: The epoch that was kept.
        val: Accuracy in percent by split on validation, or None.
        history: All epochs.
    """

    rho: float
    k: int
    seed: int
    epoch: int = 0
    val: Mapping[str, float | None] | None = None
    history: tuple[EpochRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        history = [epoch.to_dict() for epoch in self.history]
        val = None if self.val is None else dict(self.val)
        return {**vars(self), "val": val, "history": history}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrialRecord:
        """Read what `to_dict` gave.

        Raises:
            ValueError: If an entry is missing or of another type.
        """
        return typed(cls, data)


@dataclass(frozen=True)
class OwnRows:
    """One more row in each class's pool, beside those of its neighbours: its own.

    Attributes:
        rows: The own row of each few-split class, float32 of shape F x D.
        alphas: Its coefficient in each trial, float32 of shape T x F.
    """

    rows: FloatArray
    alphas: FloatArray

    def only(self, trials: Any) -> OwnRows:
        """Those of some trials."""
        return replace(self, alphas=self.alphas[trials])


@dataclass(frozen=True)
class Trials:
    """T trained trials.

    The corrected rows of a trial follow from its alphas (AlphaNet, Eq. 2), so that only
    those are kept: T x F x K numbers instead of T x F x D.

    Attributes:
        records: What distinguishes each of the T trials, and what validation said of it.
        neighbors: Class ids, int64 of shape T x F x K (padded with -1 where k < K).
        alphas: Coefficients of unit 1-norm (with that of the own row, if there is one), float32 of
            shape T x F x K (padded with 0).
        biases: Few-split biases, float32 of shape T x F.
        own: The own rows in the pool; None where it holds neighbours alone, as in the paper.
    """

    records: tuple[TrialRecord, ...]
    neighbors: IntArray
    alphas: FloatArray
    biases: FloatArray
    own: OwnRows | None = None

    def __len__(self) -> int:
        return len(self.records)

    def only(self, trial: int) -> Trials:
        """One trial by itself."""
        place = slice(trial, trial + 1)
        return Trials(
            self.records[place],
            self.neighbors[place],
            self.alphas[place],
            self.biases[place],
            None if self.own is None else self.own.only(place),
        )

    @classmethod
    def join(cls, parts: Sequence[Trials]) -> Trials:
        """All trials of ``parts`` in order, padded to the largest K."""
        k = max(part.neighbors.shape[2] for part in parts)

        def padded(array: Array, value: int) -> Array:
            missing = k - array.shape[2]
            return np.pad(array, ((0, 0), (0, 0), (0, missing)), constant_values=value)

        own = [part.own for part in parts if part.own is not None]
        return cls(
            records=tuple(record for part in parts for record in part.records),
            neighbors=np.concatenate([padded(part.neighbors, -1) for part in parts]),
            alphas=np.concatenate([padded(part.alphas, 0) for part in parts]),
            biases=np.concatenate([part.biases for part in parts]),
            own=replace(own[0], alphas=np.concatenate([o.alphas for o in own])) if own else None,
        )

    def largest_k(self) -> Trials:
        """The trials with the largest K, whose coefficients have no padding."""
        ks = np.array([record.k for record in self.records])
        return self.select(np.flatnonzero(ks == ks.max()))

    def of_setting(self, rho: float | None = None, k: int | None = None) -> Trials:
        """The trials of one rho, one K, or both; there may be none."""
        kept = [
            (rho is None or record.rho == rho) and (k is None or record.k == k)
            for record in self.records
        ]
        return self.select(np.flatnonzero(kept))

    def select(self, trials: IntArray) -> Trials:
        """The trials of these numbers, padded no further than to the largest K among them."""
        records = tuple(self.records[i] for i in trials)
        k = max((record.k for record in records), default=0)
        return replace(
            self,
            records=records,
            neighbors=self.neighbors[trials][:, :, :k],
            alphas=self.alphas[trials][:, :, :k],
            biases=self.biases[trials],
            own=None if self.own is None else self.own.only(trials),
        )

    def tensors(self) -> dict[str, Array]:
        """The arrays under the names that they have in files."""
        found: dict[str, Array] = {
            "trial_neighbors": self.neighbors,
            "trial_alphas": self.alphas,
            "trial_biases": self.biases,
        }
        if self.own is not None:
            found |= {"trial_own_rows": self.own.rows, "trial_own_alphas": self.own.alphas}
        return found

    def to_metadata(self) -> list[dict[str, Any]]:
        """The records as JSON data, as files have them beside the tensors."""
        return [record.to_dict() for record in self.records]

    @classmethod
    def of(cls, tensors: Mapping[str, Array], metadata: Sequence[Mapping[str, Any]]) -> Trials:
        """Read what `tensors` and `to_metadata` gave.

        Raises:
            ValueError: If a record is of another form.
        """
        own = None
        if "trial_own_rows" in tensors:
            own = OwnRows(tensors["trial_own_rows"], tensors["trial_own_alphas"])
        return cls(
            records=typed(tuple[TrialRecord, ...], metadata, "trials"),
            neighbors=tensors["trial_neighbors"],
            alphas=tensors["trial_alphas"],
            biases=tensors["trial_biases"],
            own=own,
        )

    def rows(self, trial: int, head: Head, classes: IntArray) -> FloatArray:
        """The corrected rows of one trial, F x D (AlphaNet, Eq. 2)."""
        neighbors = np.maximum(self.neighbors[trial], 0)  # padding has alpha 0
        moved = np.einsum("fk,fkd->fd", self.alphas[trial], head.weight[neighbors])
        rows: FloatArray = head.weight[classes] + moved.astype(np.float32)
        if self.own is not None:
            rows = rows + self.own.alphas[trial, :, None] * self.own.rows
        return rows
