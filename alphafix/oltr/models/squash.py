"""Squashing: meta-embeddings get a length below 1 (OLTR, Eq. 6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def squash(embeddings: Tensor, form: Literal["quadratic", "linear"]) -> Tensor:
    """Shrink small embeddings to almost nothing and large ones to almost unit length.

    With n = ‖v‖, "quadratic" is n²/(1 + n²) · v/n (the paper's Eq. 6) and "linear" is
    n/(1 + n) · v/n (the official code). The division by n is carried out on paper, so that
    v = 0 gives 0 and a finite gradient.

    Args:
        embeddings: v, float of shape B x D.
        form: How the length depends on n.

    Returns:
        float of shape B x D, of 32 bits at least: squares of lengths overflow in fewer.
    """
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    length: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    if form == "linear":
        return embeddings / (1 + length)
    return embeddings * (length / (1 + length.square()))
