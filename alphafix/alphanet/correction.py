"""Corrected scores of a step's samples, and their gradient by the coefficients, in two ways."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

# A product with the scores of all neighbours, most of them times zero, is as fast as looking up
# those of each class where there are this many neighbours for each of a class (measured).
PRODUCT_PAYS = 32


class Correction(Protocol):
    """t_c = s_c + sum over k of alpha_ck s_n(c,k) + b_c (AlphaNet, Eq. 2 and 4) for n samples.

    Scores s of the kept classes, few-split first, float32 of shape T x n x U, are written to
    memory that it was made for.
    """

    def scores(self, alphas: Tensor, biases: Tensor) -> Tensor:
        """Corrected scores t of the few-split classes, float32 of shape T x n x F'.

        Args:
            alphas: Coefficients, float32 of shape T x K x F'.
            biases: Few-split biases times the logit scale, float32 of shape T x F'.

        Returns:
            The scores; the next time, they are written over.
        """

    def pulls(self, slopes: Tensor) -> Tensor:
        """Gradient by the coefficients, float32 of shape T x K x F'; `scores` came before.

        Args:
            slopes: Gradient by t, float32 of shape T x n x F'.
        """


class LookedUp:
    """The scores of each class's neighbours side by side: K * F' numbers a sample.

    Args:
        positions: Columns of the neighbours in the scores, int64 of shape T x K x F'.
        rows: Where the scores s are, float32 of shape T x n x U.
    """

    def __init__(self, positions: Tensor, rows: Tensor) -> None:
        trials, k, few = positions.shape
        samples = rows.shape[1]
        self._rows, self._own = rows, rows[:, :, :few]
        self._columns = positions.flatten(1)[:, None].expand(trials, samples, -1)
        self._near = rows.new_empty((trials, samples, k, few))
        self._found = self._near.flatten(2)
        self._products = torch.empty_like(self._near)
        self._few = rows.new_empty((trials, samples, few))
        self._pulls = rows.new_empty((trials, k, few))

    def scores(self, alphas: Tensor, biases: Tensor) -> Tensor:
        """See `Correction`."""
        torch.gather(self._rows, 2, self._columns, out=self._found)
        torch.mul(self._near, alphas[:, None], out=self._products)
        torch.sum(self._products, 2, out=self._few)
        return self._few.add_(self._own).add_(biases[:, None])

    def pulls(self, slopes: Tensor) -> Tensor:
        """See `Correction`."""
        self._near.mul_(slopes[:, :, None])
        return torch.sum(self._near, 1, out=self._pulls)


class Multiplied:
    """Products with the scores of all V neighbours, where the few-split classes have few of them.

    Args:
        positions: Columns of the neighbours in the scores, int64 of shape T x K x F': all of them
            behind the few-split classes, and of each class distinct.
        rows: Where the scores s are, float32 of shape T x n x U.
    """

    def __init__(self, positions: Tensor, rows: Tensor) -> None:
        trials, _, few = positions.shape
        self._own, self._near = rows[:, :, :few], rows[:, :, few:]
        self._turned = self._near.transpose(1, 2)
        # Those of padding are no neighbours'; whatever they are, padding is never looked at.
        self._which = (positions - few).clamp_min_(0)
        # Coefficients by neighbour and class, zero where a class does not have the neighbour;
        # those that it has are written over in each step.
        self._table = rows.new_zeros((trials, self._near.shape[2], few))
        self._products = torch.empty_like(self._table)
        self._few = rows.new_empty(self._own.shape)
        self._pulls = rows.new_empty(positions.shape)

    def scores(self, alphas: Tensor, biases: Tensor) -> Tensor:
        """See `Correction`."""
        self._table.scatter_(1, self._which, alphas)
        torch.add(self._own, biases[:, None], out=self._few)
        return self._few.baddbmm_(self._near, self._table)

    def pulls(self, slopes: Tensor) -> Tensor:
        """See `Correction`."""
        torch.bmm(self._turned, slopes, out=self._products)
        return torch.gather(self._products, 1, self._which, out=self._pulls)


def correction_of(positions: Tensor, rows: Tensor, *, classes: int) -> Correction:
    """The faster way.

    Args:
        positions: Columns of the neighbours, int64 of shape T x K x F'.
        rows: Where the scores s will be, float32 of shape T x n x U.
        classes: F, how many of the F' few-split classes are not padding.
    """
    real, (_, k, few) = positions[:, :, :classes], positions.shape
    sorted_columns = real.sort(dim=1).values
    # A class's neighbour twice, or a few-split class as one, has no place of its own in a table.
    distinct = bool((sorted_columns.diff(dim=1) > 0).all()) and bool((real >= few).all())
    if distinct and rows.shape[2] - few <= PRODUCT_PAYS * k:
        return Multiplied(positions, rows)
    return LookedUp(positions, rows)
