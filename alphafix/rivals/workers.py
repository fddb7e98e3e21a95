"""A few threads that fit methods side by side, and share the processor's threads among them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from alphafix.rivals.budget import Budget

Result = TypeVar("Result")

# Each holds the logits and gradients of its own method.
MOST = 4


class Workers:
    """Threads for methods, as many as PyTorch has for products; each product then takes its share.

    What a method takes most of the time for are products too small for several threads, and steps
    that wait for one another: two methods at once are faster than one with two threads.

    Args:
        budget: Told to stop if this ends by an error, an interrupt among them.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __enter__(self) -> Workers:
        """Begin."""
        self._threads = torch.get_num_threads()
        count = min(MOST, self._threads)
        torch.set_num_threads(self._threads // count)
        self._pool = ThreadPoolExecutor(count)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        """Wait for the end of all work; after an error only of what has begun."""
        if kind is not None:
            self._budget.stop()
        self._pool.shutdown(cancel_futures=kind is not None)
        torch.set_num_threads(self._threads)

    def do(self, work: Callable[[], Result]) -> Future[Result]:
        """Do some work when its turn comes: first come, first served."""
        return self._pool.submit(work)
