"""The processes of one extraction, as `torchrun` starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from alphafix.errors import AlphafixError
from alphafix.values.arrays import Array

# How long processes wait for the slowest one. A process that dies is noticed by torchrun.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """Where this process stands among all.

    Attributes:
        rank: Its number.
        world: How many there are.
        local_rank: Its number on its machine.
        local_world: How many there are on its machine.
    """

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

    def total(self, number: int) -> int:
        """Sum of the numbers that all processes give."""
        if self.world == 1:
            return number
        with _clear_errors():
            found = torch.tensor(number)
            torch.distributed.all_reduce(found)
        return int(found)

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
def join(backend: str = "gloo") -> Iterator[Ranks]:
    """Join the other processes, if `torchrun` started any.

    In an extraction only sums of C x D numbers travel between them, once a split, so that gloo
    serves on machines with GPUs too.

    Args:
        backend: What carries tensors, as torch names it.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    store, rank, world = next(rendezvous("env://", timeout=_PATIENCE))
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
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_world=int(os.environ["LOCAL_WORLD_SIZE"]),
        )
    finally:
        torch.distributed.destroy_process_group()
