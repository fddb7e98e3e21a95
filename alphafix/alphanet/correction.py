"""Corrected scores of a step's samples, and their gradient by the coefficients, in two ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# A product with the scores of all neighbours, most of them times zero, is as fast as looking up
# those of each class where there are this many neighbours for each of a class (measured).
PRODUCT_PAYS = 32


class Correction(Protocol):
    """t_c = s_c + sum over k of alpha_ck s_n(c,k) + b_c (AlphaNet, Eq. 2 and 4) for n samples.

    Scores s of the kept classes, few-split first, are float32 of shape T x n x U.
    """

    def scores(self, rows: Tensor, alphas: Tensor, biases: Tensor) -> Tensor:
        """Corrected scores t of the few-split classes, float32 of shape T x n x F'.

        Args:
            rows: Scores s, float32 of shape T x n x U.
            alphas: Coefficients, float32 of shape T x K x F'.
            biases: Few-split biases times the logit scale, float32 of shape T x F'.
        """

    def pulls(self, rows: Tensor, slopes: Tensor) -> Tensor:
        """Gradient by the coefficients, float32 of shape T x K x F'; `scores` came before.

        Args:
            rows: Scores s, float32 of shape T x n x U.
            slopes: Gradient by t, float32 of shape T x n x F'.
        """


@dataclass(frozen=True)
class LookedUp:
    """The scores of each class's neighbours side by side: K * F' numbers a sample.

    Attributes:
        columns: Columns of the neighbours in the scores, int64 of shape T x n x (K * F').
        near: Memory for their scores, float32 of this shape.
        products: Memory for these times the coefficients, T x n x K x F'.
    """

    columns: Tensor
    near: Tensor
    products: Tensor

    @classmethod
    def of(cls, positions: Tensor, samples: int) -> LookedUp:
        """For steps of ``samples`` samples; positions are int64 of shape T x K x F'."""
        trials, k, few = positions.shape
        new = positions.new_empty((trials, samples, k, few), dtype=torch.float32)
        columns = positions.flatten(1)[:, None].expand(trials, samples, -1)
        return cls(columns, torch.empty_like(new).flatten(2), new)

    def scores(self, rows: Tensor, alphas: Tensor, biases: Tensor) -> Tensor:
        """See `Correction`."""
        torch.gather(rows, 2, self.columns, out=self.near)
        near = self.near.view_as(self.products)
        found = torch.mul(near, alphas[:, None], out=self.products).sum(2)
        return found.add_(rows[:, :, : biases.shape[1]]).add_(biases[:, None])

    def pulls(self, rows: Tensor, slopes: Tensor) -> Tensor:
        """See `Correction`."""
        return self.near.view_as(self.products).mul_(slopes[:, :, None]).sum(1)


@dataclass(frozen=True)
class Multiplied:
    """Products with the scores of all V neighbours, where the few-split classes have few of them.

    Attributes:
        rows: Which neighbour each is, int64 of shape T x K x F'.
        table: Coefficients by neighbour and class, zero where a class does not have the neighbour,
            float32 of shape T x V x F'; those that it has are written over in each step.
    """

    rows: Tensor
    table: Tensor

    @classmethod
    def of(cls, positions: Tensor, neighbours: int) -> Multiplied:
        """For V neighbours, whose columns follow the few-split ones in the scores."""
        trials, _, few = positions.shape
        table = positions.new_zeros((trials, neighbours, few), dtype=torch.float32)
        # Those of padding are no neighbours'; whatever they are, padding is never looked at.
        return cls((positions - few).clamp_min_(0), table)

    def scores(self, rows: Tensor, alphas: Tensor, biases: Tensor) -> Tensor:
        """See `Correction`."""
        few = biases.shape[1]
        self.table.scatter_(1, self.rows, alphas)
        found = torch.baddbmm(rows[:, :, :few], rows[:, :, few:], self.table)
        return found.add_(biases[:, None])

    def pulls(self, rows: Tensor, slopes: Tensor) -> Tensor:
        """See `Correction`."""
        near = rows[:, :, slopes.shape[2] :]
        return torch.bmm(near.transpose(1, 2), slopes).gather(1, self.rows)


def correction_of(positions: Tensor, *, classes: int, columns: int, samples: int) -> Correction:
    """The faster way for steps of n samples.

    Args:
        positions: Columns of the neighbours, int64 of shape T x K x F'.
        classes: F, how many of the F' few-split classes are not padding.
        columns: U, how many columns the scores have.
        samples: n.
    """
    real, few = positions[:, :, :classes], positions.shape[2]
    sorted_columns = real.sort(dim=1).values
    # A class's neighbour twice, or a few-split class as one, has no place of its own in a table.
    distinct = bool((sorted_columns.diff(dim=1) > 0).all()) and bool((real >= few).all())
    if distinct and columns - few <= PRODUCT_PAYS * positions.shape[1]:
        return Multiplied.of(positions, columns - few)
    return LookedUp.of(positions, samples)
