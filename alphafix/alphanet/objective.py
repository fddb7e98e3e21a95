"""The reduced objective: corrected few-split scores, their loss, and the predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from alphafix.alphanet.scores import CHUNK_BYTES, Scores


def few_scores(rows: Tensor, positions: Tensor, alphas: Tensor, biases: Tensor) -> Tensor:
    """Corrected scores t_c of the few-split classes (AlphaNet, Eq. 2 and 4).

    Args:
        rows: Scores s of the kept classes (few-split first), float32, T x n x U.
        positions: Columns of the neighbours, int64 of shape T x F x K (or 1 x F x K).
        alphas: Coefficients, float32 of shape T x F x K.
        biases: Few-split biases times the logit scale, float32 of shape T x F.

    Returns:
        float32 of shape T x n x F.
    """
    trials, samples, _ = rows.shape
    few, k = positions.shape[1:]
    index = positions.reshape(len(positions), 1, few * k).expand(trials, samples, few * k)
    near = rows.gather(2, index).view(trials, samples, few, k)
    return rows[:, :, :few] + (near * alphas[:, None]).sum(-1) + biases[:, None]


def sample_losses(scores: Scores, index: Tensor, few: Tensor) -> Tensor:
    """Cross-entropy of each sample, float32 of shape T x n.

    Args:
        scores: All samples.
        index: Which of them each trial sees, int64 of shape T x n.
        few: Their corrected few-split scores, float32 of shape T x n x F.
    """
    label = scores.few_label[index]
    own_few = few.gather(2, label.clamp_min(0)[..., None])[..., 0]
    own = torch.where(label >= 0, own_few, scores.own[index])
    return torch.logaddexp(scores.base_lse[index], few.logsumexp(-1)) - own


def best_few(
    scores: Scores, positions: Tensor, alphas: Tensor, biases: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The best few-split class of every sample for one trial, in chunks.

    The corrected scores of all samples are a product of a sparse F x U matrix (a one for
    the class itself, its alphas at its neighbours) with the U x n scores by class.

    Args:
        scores: n samples, kept by class.
        positions: Columns of the neighbours, int64 of shape F x K.
        alphas: Coefficients, float32 of shape F x K.
        biases: Few-split biases times the logit scale, float32 of shape F.

    Yields:
        The slice of samples, the largest t_c (float32, m) and the position of its class
        among the few-split classes (int64, m; the first one of equals).
    """
    combine = _combination(positions, alphas, width=len(scores.columns.weight))
    rows = max(1, CHUNK_BYTES // (4 * len(scores.columns.weight)))
    for start in range(0, len(scores), rows):
        place = slice(start, min(start + rows, len(scores)))
        t = (combine @ scores.columns.by_class(place)).add_(biases[:, None])
        best, which = t.max(0)
        yield place, best, which


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
    the arguments see `best_few`.
    """
    correct = torch.empty(len(scores), dtype=torch.bool, device=alphas.device)
    for place, best, which in best_few(scores, positions, alphas, biases):
        few_right = which == scores.few_label[place]
        base_right = scores.base_argmax[place] == scores.labels[place]
        correct[place] = torch.where(best > scores.base_max[place], few_right, base_right)
    return correct
