"""Training in several processes, as `torchrun` starts them, with the results of one.

Every process computes the objective of the whole batch: what the model gave for each part is
gathered first. So losses that compare the samples of a batch, and centroids that count them,
are the same for any number of processes.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from alphafix.oltr.output import Output


class _Gather(torch.autograd.Function):
    """Concatenation over processes along the first axis.

    Every process computes the same loss of the result, so that its gradient is there already,
    and nothing has to travel back. `DistributedDataParallel` divides by the number of
    processes, by which each part's gradient is multiplied here.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        """Gather b x ... of each process to B x ..."""
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, part.contiguous())
        ctx.rows = len(part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Take this process's part."""
        start = distributed.get_rank() * ctx.rows
        return gradients[0][start : start + ctx.rows] * distributed.get_world_size()


def gather(part: Tensor, *, axis: int = 0) -> Tensor:
    """Concatenate the parts of all processes along ``axis``; gradients flow to this one's."""
    if not is_distributed():
        return part
    gathered: Tensor = _Gather.apply(part.movedim(axis, 0))
    return gathered.movedim(0, axis)


def gather_output(output: Output) -> Output:
    """What the model gave for the whole batch, from what it gave for each part."""
    if not is_distributed():
        return output
    values = {field.name: getattr(output, field.name) for field in fields(output)}
    # The first axis of expert logits is the experts'.
    gathered = {
        name: gather(value, axis=1 if name == "expert_logits" else 0)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    return replace(output, **gathered)


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized()


def add_up(tensor: Tensor) -> Tensor:
    """Sum over all processes."""
    if is_distributed():
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
    return tensor


def share_buffers(module: nn.Module) -> None:
    """Give all processes the running statistics of the first."""
    if is_distributed():
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)
