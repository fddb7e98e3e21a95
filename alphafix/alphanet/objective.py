"""The reduced objective: corrected few-split scores, their loss, and the predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alphafix.alphanet.scores import Scores, table_of

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
        column: That of the label, int64 of shape ... x n x 1.
        total: Logsumexp over the base classes, float32 of the same shape.
        beyond: That less the label's own score; 0 for few-split samples.
        share: The sample's share in the mean of its step.
    """

    column: Tensor
    total: Tensor
    beyond: Tensor
    share: Tensor

    @classmethod
    def of(cls, scores: Scores, index: Tensor, share: Tensor, base: int) -> Aims:
        """Those of some samples.

        Args:
            scores: Where they are.
            index: Which, int64 of shape ... x n.
            share: Their shares, float32 of the same shape.
            base: The column that stands for the base classes, the first one of padding.
        """
        of_base = scores.few_label < 0
        column = scores.few_label.masked_fill(of_base, base)
        beyond = torch.where(of_base, scores.base_lse - scores.own, 0.0)

        def chosen(values: Tensor) -> Tensor:
            return values.index_select(0, index.flatten()).view(index.shape)[..., None]

        return cls(chosen(column), chosen(scores.base_lse), chosen(beyond), share[..., None])

    def by_step(self, trials: int) -> list[Aims]:
        """Those of each step of the first trials, where they are of steps x T x n samples."""
        parts = (one[:, :trials].unbind(0) for one in vars(self).values())
        return [Aims(*of_step) for of_step in zip(*parts, strict=True)]

    def losses(self, logs: Tensor) -> Tensor:
        """Cross-entropy of each sample times its share.

        Args:
            logs: Logs of the shares of their columns, float32 of shape ... x n x 1.
        """
        return (self.beyond - logs) * self.share


class Slopes:
    """Gradients of a step's mean loss by the corrected few-split scores, and their memory.

    Args:
        like: Such scores, float32 of shape T x n x F'.
        base: The column that stands for the base classes.
    """

    def __init__(self, like: Tensor, base: int) -> None:
        self._slopes, self._base = torch.empty_like(like), base
        self._padding = self._slopes[:, :, base:]
        self._of_labels = like.new_full((*like.shape[:2], 1), -1)

    def of(self, few: Tensor, aims: Aims, logs: Tensor) -> Tensor:
        """Find them.

        Args:
            few: Corrected few-split scores, float32 of shape T x n x F'; overwritten.
            aims: Those of the samples, T x n x 1.
            logs: Where the log shares of their columns are written, float32 of shape T x n x 1.

        Returns:
            Gradients, T x n x F'; the next time, they are written over.
        """
        few.narrow(2, self._base, 1).copy_(aims.total)
        shares = torch.log_softmax(few, 2, out=self._slopes)
        torch.gather(shares, 2, aims.column, out=logs)
        shares.clamp_min_(LEAST_LOG).exp_()
        shares.scatter_add_(2, aims.column, self._of_labels).mul_(aims.share)
        self._padding.zero_()
        return shares


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
    work = table_of((rows * len(alphas),), alphas.device)
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
