"""A few threads side by side, which share the processor's threads among them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch

from alphafix.load import processors_of_others

Result = TypeVar("Result")

# A processor that others use for this share of the time is left to them.
WORTH_LEAVING = 0.6


class Workers:
    """As many threads as PyTorch has for products, at the most ``most``; each takes its share.

    What training takes most of the time for are products too small for several threads, and steps
    that wait for one another: two trainings at once are faster than one with two threads.

    Args:
        most: How many threads.
        stop: Tells all work to stop, if this ends by an error, an interrupt among them.
    """

    def __init__(self, most: int, stop: Callable[[], None]) -> None:
        self._most, self._stop = most, stop

    def __enter__(self) -> Workers:
        """Begin."""
        self._threads = torch.get_num_threads()
        count = min(self._most, self._threads)
        torch.set_num_threads(self._threads // count)
        self._pool = ThreadPoolExecutor(count)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        """Wait for the end of all work; after an error only of what has begun."""
        if kind is not None:
            self._stop()
        self._pool.shutdown(cancel_futures=kind is not None)
        torch.set_num_threads(self._threads)

    def do(self, work: Callable[[], Result]) -> Future[Result]:
        """Do some work when its turn comes: first come, first served."""
        return self._pool.submit(work)

    def do_all(self, works: Iterable[Callable[[], Result]]) -> list[Result]:
        """Do all of this, and return what came of each; an error in one ends the waiting."""
        jobs = [self.do(work) for work in works]
        for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
            job.result()
        return [job.result() for job in jobs]


@contextlib.contextmanager
def beside_others() -> Iterator[None]:
    """Leave to other processes the processors that they use, unless the environment says how many.

    Threads that do a product together wait for the last of them. Where it shares its processor with
    another process, all of them are as slow as that one, and one thread less is sooner done.
    """
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads_beside(processors_of_others(), threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def threads_beside(others: float, threads: int) -> int:
    """How many of some threads are left where others use so many processors on average."""
    return max(1, threads - math.floor(others + 1 - WORTH_LEAVING))
