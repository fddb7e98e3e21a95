"""The processes of one command, as `torchrun` starts them, and what travels between them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from alphafix.errors import AlphafixError
from alphafix.values.arrays import Array

Shared = TypeVar("Shared")

# How long processes wait for the slowest one. A process that dies is noticed by torchrun.
_PATIENCE = timedelta(days=30)

# Loading processes beyond this wait for one another more than they decode.
_MOST_LOADING = 16


@dataclass(frozen=True)
class Ranks:
    """Where this process stands among all."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            with _clear_errors():
                torch.distributed.barrier()

    def of_first(self, value: Shared) -> Shared:
        """What the first process gives, in all of them; it must be small."""
        if self.world == 1:
            return value
        box = [value]
        with _clear_errors():
            torch.distributed.broadcast_object_list(box)
        return box[0]

    def total(self, number: int) -> int:
        """Sum of the numbers that all processes give."""
        with _clear_errors():
            return int(summed(torch.tensor(number)))

    def add_up(self, *arrays: Array) -> None:
        """Replace the arrays of each process by their sums over all, in place."""
        if self.world > 1:
            with _clear_errors():
                for array in arrays:
                    torch.distributed.all_reduce(torch.from_numpy(array))  # in place


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise AlphafixError(
            "another of the processes has ended",
            got=str(error).splitlines()[0],
            todo="see what it said; the same command continues where this one stopped "
            "(torchrun --max-restarts gives it by itself)",
        ) from error


@contextlib.contextmanager
def alike() -> Iterator[None]:
    """Check, before processes join, what fails in each of them alike: the first tells of it.

    Of a process that ends after it has joined the others, PyTorch tells of its own accord.
    """
    try:
        yield
    except AlphafixError:
        if os.environ.get("RANK", "0") == "0":
            raise
        raise SystemExit(1) from None


@contextlib.contextmanager
def join(backend: str = "gloo", *, of_machine: bool = False) -> Iterator[Ranks]:
    """Join the other processes, if `torchrun` started any.

    In an extraction only sums of C x D numbers travel between them, once a split, so that gloo
    serves on machines with GPUs too.

    Args:
        backend: What carries tensors, as torch names it.
        of_machine: Join those of this machine alone.
    """
    local = {name: int(os.environ.get(f"LOCAL_{name}", 0)) for name in ("RANK", "WORLD_SIZE")}
    world = local["WORLD_SIZE"] if of_machine else int(os.environ.get("WORLD_SIZE", "1"))
    if world <= 1:
        yield Ranks()
        return
    store, rank, _ = next(rendezvous("env://", timeout=_PATIENCE))
    if of_machine:
        machine = os.environ.get("GROUP_RANK", "0")
        store, rank = PrefixStore(f"machine-{machine}", store), local["RANK"]
    # A process that torchrun restarts must not find the addresses of the try before.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    torch.distributed.init_process_group(
        backend,
        store=PrefixStore(f"attempt-{attempt}", store),
        rank=rank,
        world_size=world,
        timeout=_PATIENCE,
    )
    try:
        yield Ranks(
            rank=rank,
            world=world,
            local_rank=local["RANK"],
            local_world=local["WORLD_SIZE"],
        )
    finally:
        torch.distributed.destroy_process_group()


def loading_processes(wanted: int | None, ranks: Ranks) -> int:
    """How many processes load images for this one.

    Args:
        wanted: What the user asked for; None is one a core of this process's share of the
            machine, at most 16.
        ranks: Where this process stands.
    """
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(_MOST_LOADING, (cores or 1) // ranks.local_world))


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class _Gather(torch.autograd.Function):
    """Concatenation over processes along the first axis.

    Every process computes the same loss of the result, so that its gradient is there already,
    and nothing has to travel back. `DistributedDataParallel` divides by the number of
    processes, by which each part's gradient is multiplied here.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        """Gather b x ... of each process to B x ..."""
        parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, part.contiguous())
        ctx.rows = len(part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Take this process's part."""
        start = torch.distributed.get_rank() * ctx.rows
        part = gradients[0][start : start + ctx.rows]
        return part * torch.distributed.get_world_size()


def gather(part: Tensor, *, axis: int = 0) -> Tensor:
    """Concatenate the parts of all processes along ``axis``; gradients flow to this one's."""
    if not is_distributed():
        return part
    gathered: Tensor = _Gather.apply(part.movedim(axis, 0))
    return gathered.movedim(0, axis)


def summed(tensor: Tensor) -> Tensor:
    """Sum of the tensors of all processes."""
    if is_distributed():
        tensor = tensor.clone()
        torch.distributed.all_reduce(tensor)
    return tensor


def share_buffers(module: nn.Module) -> None:
    """Give all processes the running statistics of the first."""
    if is_distributed():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)
