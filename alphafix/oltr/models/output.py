"""What a model gives for a batch: the one value that heads make and objectives read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """Everything that a model says about B images.

    Attributes:
        logits: B x C.
        direct: Direct features, B x D: what the network gives and the head takes.
        features: B x D, what enters the head's last, linear operation (in OLTR the squashed
            meta-embedding; in a plain linear head the direct features).
        meta: Meta-embeddings before the squashing (OLTR, Eq. 2), B x D; None without a memory.
        memory: Coefficients o of the memory's classes (OLTR, Eq. 1), B x C; None without one.
        expert_logits: Logits of E experts, E x B x C; None if there is only one.
        experts: How many experts each image asked, of shape B; None without a router.
    """

    logits: Tensor
    direct: Tensor
    features: Tensor
    meta: Tensor | None = None
    memory: Tensor | None = None
    expert_logits: Tensor | None = None
    experts: Tensor | None = None
