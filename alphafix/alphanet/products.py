"""Products that are summed over classes, rounded alike by any number of threads."""

from __future__ import annotations

import torch
from torch import Tensor

# A sum over more classes than this is split among threads where there is little else to split, and
# then rounded by how many there are, and by how many trials are in the product.
SUMMED_AT_ONCE = 512


def sum_over_classes(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write the product to ``out``, so many classes at a time.

    Args:
        left: Float32 of shape m x F', or T x m x F'.
        right: Float32 of shape F' x n, or T x F' x n.
        out: Memory for m x n numbers, or T x m x n.
    """
    product, add = (torch.mm, out.addmm_) if left.ndim == 2 else (torch.bmm, out.baddbmm_)
    if left.shape[-1] <= SUMMED_AT_ONCE:
        product(left, right, out=out)
        return
    starts = range(0, left.shape[-1], SUMMED_AT_ONCE)
    for start in starts:
        width = min(SUMMED_AT_ONCE, left.shape[-1] - start)
        one, other = left.narrow(-1, start, width), right.narrow(-2, start, width)
        if start == 0:
            product(one, other, out=out)
        else:
            add(one, other)
