"""Gradients of the losses of `alphafix.rivals.losses` by the logits of heads side by side.

Training a head on stored features needs no value of a loss, and its gradient by the logits is a
softmax and little else: worked out by hand it takes a third of the time that PyTorch takes for
value and gradient. Each is of the sum over heads of their own losses, so that heads that see the
same batches are trained as if each were alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from alphafix.rivals.losses import GAMMA, LAMBDA, SCALE

Slope = Callable[[Tensor, Tensor], Tensor]
"""Logits of n samples by R heads, n x R x C, and n labels -> gradient by the logits, n x R x C.

The logits may be overwritten."""

# As in PyTorch's binary cross entropy: the least denominator.
LEAST_SHARE = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(p - onehot(y)) / n."""
    return _shares_beyond_label(logits, labels).div_(len(labels))


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """w_y (p - onehot(y)) / sum of w_y: as PyTorch's, a mean that the weights of classes weigh.

    Args:
        logits: n x R x C.
        labels: n class ids.
        weights: C.
    """
    own = weights[labels]
    return _shares_beyond_label(logits, labels).mul_((own / own.sum())[:, None, None])


def balanced_softmax(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """That of the cross-entropy of z + log n (see `alphafix.rivals.losses.balanced_softmax`)."""
    return cross_entropy(logits.add_(counts.log()), labels)


def focal(logits: Tensor, labels: Tensor, gamma: float = GAMMA) -> Tensor:
    """[(1 - p_y)^gamma - gamma (1 - p_y)^(gamma - 1) p_y log p_y] (p - onehot(y)) / n."""
    shares = logits.softmax(dim=2)
    index = _of_label(labels, shares)
    own = shares.gather(2, index)
    rest = 1 - own
    pull = gamma * rest ** (gamma - 1) * torch.special.xlogy(own, own)
    factor = (rest**gamma - pull) / len(labels)
    return shares.scatter_(2, index, own - 1).mul_(factor)


def ldam(cosines: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """That of the cross-entropy of 30 (cos - Delta_y at y) (Cao et al. 2019, Eq. 12).

    Args:
        cosines: n x R x C.
        labels: n class ids.
        delta: Margins, C.
    """
    index = _of_label(labels, cosines)
    cosines.scatter_add_(2, index, -delta[labels][:, None, None].expand_as(index))
    return _shares_beyond_label(cosines.mul_(SCALE), labels).mul_(SCALE / len(labels))


def lade(
    logits: Tensor, labels: Tensor, counts: Tensor, weight: float, strength: float = LAMBDA
) -> Tensor:
    """That of balanced softmax and of ``weight`` times LADER (see `alphafix.rivals.losses.lader`).

    LADER's is p_s(c) (1 + 2 lambda log R_c) softmax_i(z_ic), and -p_s(y) / n_y at the label, with
    n_y the label's samples in the batch.
    """
    shares = counts / counts.sum()
    top = logits.amax(dim=0)
    powers = (logits - top).exp_()
    sums = powers.sum(dim=0)
    log_r = top + sums.log() - (shares * (len(labels) * len(shares))).log()
    found = balanced_softmax(logits, labels, counts)
    found.addcmul_(powers, weight * shares * (1 + 2 * strength * log_r) / sums)
    own = weight * shares / labels.bincount(minlength=len(shares)).clamp_min(1)
    index = _of_label(labels, found)
    return found.scatter_add_(2, index, -own[labels][:, None, None].expand_as(index))


def class_balanced(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """That of the class-balanced loss of Alshammari et al. 2022, as in the authors' code.

    The loss is the binary cross entropy of the softmax, -[log p_y + sum_{c != y} log(1 - p_c)],
    times the weight of the label, the mean over samples and classes: about 1/C of a cross entropy,
    which is what makes a decay of 0.1 strong. With g_c = dL/dp_c its gradient is
    p_c (g_c - sum_k p_k g_k), and p_c g_c is p_c / (1 - p_c) but for the label, where it is -1.

    Args:
        logits: n x R x C.
        labels: n class ids.
        weights: `alphafix.rivals.losses.class_balanced_weights`, C.
    """
    shares = logits.softmax(dim=2)
    index = _of_label(labels, shares)
    own = shares.gather(2, index)
    rest = torch.sub(shares.new_ones(()), shares, out=logits)
    other = rest.gather(2, index)
    pulls = torch.div(shares, rest.clamp_min_(LEAST_SHARE), out=rest)
    pulls.scatter_(2, index, -own * other / (own * other).clamp_min(LEAST_SHARE))
    factor = weights[labels][:, None, None] / (len(labels) * shares.shape[2])
    return pulls.addcmul_(shares, pulls.sum(dim=2, keepdim=True), value=-1).mul_(factor)


def _shares_beyond_label(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax minus one at the label, n x R x C."""
    shares = logits.softmax(dim=2)
    index = _of_label(labels, shares)
    return shares.scatter_add_(2, index, shares.new_full((), -1.0).expand_as(index))


def _of_label(labels: Tensor, logits: Tensor) -> Tensor:
    """Where each sample's label is in the logits of each head, n x R x 1."""
    return labels[:, None, None].expand(-1, logits.shape[1], 1)
