"""The reduced objective: corrected few-split scores, their loss, and the predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alphafix.alphanet.scores import Scores

# Scores that are read at a time where all samples are swept: what is made of them is read again
# from the processor's own memory, which is several times as fast.
SWEPT_BYTES = 8 << 20

# In gradients no share is less than e to this, 1e-26: the processor takes a hundred times as long
# for numbers that are nearly zero, and for e to minus infinity.
LEAST_LOG = -60.0


@dataclass(frozen=True)
class Aims:
    """What samples are to be taken for, among the few-split classes and the base classes as one.

    The logsumexp of the base classes' scores stands among the few-split scores as that of one class
    more, which has the base classes' share. Where the label is one of these, that share is theirs
    and not the label's: the loss is larger by the logsumexp less the label's own score.

    Attributes:
        column: That of the label, int64 of any shape.
        total: Logsumexp over the base classes, float32 of the same shape.
        beyond: That less the label's own score; 0 for few-split samples.
        base: The column that stands for the base classes, the first one of padding.
    """

    column: Tensor
    total: Tensor
    beyond: Tensor
    base: int

    @classmethod
    def of(cls, scores: Scores, index: Tensor, base: int) -> Aims:
        """Those of some samples, int64 of any shape; for ``base`` see `Aims`."""
        of_base = scores.few_label < 0
        column = scores.few_label.masked_fill(of_base, base)
        beyond = torch.where(of_base, scores.base_lse - scores.own, 0.0)

        def chosen(values: Tensor) -> Tensor:
            return values.index_select(0, index.flatten()).view(index.shape)

        return cls(chosen(column), chosen(scores.base_lse), chosen(beyond), base)

    def by_step(self, trials: int) -> list[Aims]:
        """Those of each step of the first trials, T x n, where they are T x steps x n."""
        column, total, beyond = (
            one[:trials].unbind(1) for one in (self.column, self.total, self.beyond)
        )
        return [Aims(*of_step, self.base) for of_step in zip(column, total, beyond, strict=True)]


def losses_and_slopes(few: Tensor, aims: Aims, share: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each sample, and the gradient of a mean by the corrected few-split scores.

    Args:
        few: Corrected few-split scores, float32 of shape T x n x F'; overwritten.
        aims: Those of the samples, T x n.
        share: Each sample's share in the mean, float32 of shape T x n.

    Returns:
        Losses times shares, float32 of shape T x n, and gradients, T x n x F'.
    """
    column, each = aims.column[..., None], share[..., None]
    few.select(2, aims.base).copy_(aims.total)
    logs = few.log_softmax(2)
    losses = (aims.beyond - logs.gather(2, column)[..., 0]).mul_(share)
    slopes = logs.clamp_min_(LEAST_LOG).exp_().mul_(each)
    slopes.scatter_add_(2, column, -each)
    slopes[:, :, aims.base :].zero_()
    return losses, slopes


def corrected_few(
    scores: Scores, positions: Tensor, alphas: Tensor, biases: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The corrected few-split scores of every sample for one trial, in chunks.

    The corrected scores of all samples are a product of a sparse F x U matrix (a one for
    the class itself, its alphas at its neighbours) with the U x n scores by class.

    Args:
        scores: n samples, kept by class.
        positions: Columns of the neighbours, int64 of shape F x K.
        alphas: Coefficients, float32 of shape F x K.
        biases: Few-split biases times the logit scale, float32 of shape F.

    Yields:
        The slice of samples, and their scores t, float32 of shape F x m: written over by the next.
    """
    columns = scores.columns
    combine = _combination(positions, alphas, width=len(columns.weight))
    rows = min(len(scores), max(1, SWEPT_BYTES // (4 * len(columns.weight))))
    # New memory for each chunk takes longer than the product.
    work = alphas.new_empty(rows * len(alphas))
    for start in range(0, len(scores), rows):
        place = slice(start, min(start + rows, len(scores)))
        few = work[: (place.stop - start) * len(alphas)].view(len(alphas), -1)
        few.copy_(biases[:, None].expand_as(few))
        yield place, torch.addmm(few, combine, columns.by_class(place), out=few)


def best_few(
    scores: Scores, positions: Tensor, alphas: Tensor, biases: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The best few-split score of every sample for one trial (see `corrected_few`).

    Yields:
        The slice of samples, the largest t_c (float32, m) and whether its class, the first one of
        equals, is the label (bool, m).
    """
    for place, few in corrected_few(scores, positions, alphas, biases):
        labels = scores.few_label[place]
        right = torch.zeros_like(labels, dtype=torch.bool)
        # Which class it is takes ten times as long as how large, and base samples need not know.
        mine = (labels >= 0).nonzero()[:, 0]
        right[mine] = few.index_select(1, mine).max(0).indices == labels[mine]
        yield place, few.amax(0), right


def _combination(positions: Tensor, alphas: Tensor, *, width: int) -> Tensor:
    few, k = alphas.shape
    device = alphas.device
    own = torch.arange(few, device=device)[:, None]
    rows = torch.arange(0, few * (k + 1) + 1, k + 1, device=device)
    columns = torch.cat([own, positions], dim=1).flatten()
    values = torch.cat([torch.ones_like(alphas[:, :1]), alphas], dim=1).flatten()
    with warnings.catch_warnings():
        # Sparse CSR is "beta" in PyTorch; the one product used here is tested.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(rows, columns, values, (few, width), check_invariants=False)


def correct_predictions(
    scores: Scores, positions: Tensor, alphas: Tensor, biases: Tensor
) -> Tensor:
    """Whether the corrected model of one trial predicts each label, bool of shape n.

    A few-split class wins only with a strictly larger score than the best base class. For
    the arguments see `corrected_few`.
    """
    correct = torch.empty(len(scores), dtype=torch.bool, device=alphas.device)
    for place, best, few_right in best_few(scores, positions, alphas, biases):
        base_right = scores.base_argmax[place] == scores.labels[place]
        correct[place] = torch.where(best > scores.base_max[place], few_right, base_right)
    return correct
