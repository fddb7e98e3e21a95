"""Commands in processes of their own, without paying for the import of torch each time."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 (so that every process finds it loaded)
import scipy.special  # noqa: F401
import timm.models.resnet  # noqa: F401
import torch

from alphafix.commands.command import Watch
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.part import part_work
from alphafix.commands.train_oltr.options import TrainOltrOptions
from tests.stages import extract, train_oltr

Options = ExtractOptions | TrainOltrOptions

# Forked from a process that has imported this file and done nothing else: what the tests have run
# before, such as autograd's threads, cannot be forked.
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload([__name__])


def _nothing() -> None:
    """No preparation."""


def _run(options: Options, environment: Mapping[str, str], prepare: Callable[[], None]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    prepare()
    try:
        if isinstance(options, ExtractOptions) and options.shard_count is not None:
            part_work(options, Watch())
        elif isinstance(options, ExtractOptions):
            extract(options)
        else:
            train_oltr(options)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # pytest's own exit handlers belong to the parent


def _call(target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        target(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # pytest's own exit handlers belong to the parent


def fork(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a function of a test file, in a process that has torch loaded and done nothing."""
    process = _FORK.Process(target=_call, args=(target, arguments))
    process.start()
    return process


def start(
    options: Options,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] = _nothing,
) -> BaseProcess:
    """Start a command; ``prepare`` is called first, in its process."""
    process = _FORK.Process(target=_run, args=(options, environment or {}, prepare))
    process.start()
    return process


def run_ranks(options: Options, world: int) -> list[int | None]:
    """Run a command in ``world`` processes, as torchrun would; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    processes = [
        start(
            options,
            {**common, "RANK": str(r), "LOCAL_RANK": str(r), "LOCAL_WORLD_SIZE": str(world)},
        )
        for r in range(world)
    ]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
