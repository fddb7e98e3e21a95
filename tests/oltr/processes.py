"""Trainings in processes of their own, without paying for the import of torch each time."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Mapping
from multiprocessing.process import BaseProcess

import timm.models.resnet  # noqa: F401 (so that every process finds it loaded)
import torch

from alphafix.commands.train_oltr.options import TrainOltrOptions
from tests.stages import train_oltr

_FORK = multiprocessing.get_context("fork")


def _run(options: TrainOltrOptions, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        train_oltr(options)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # pytest's own exit handlers belong to the parent


def start(options: TrainOltrOptions, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Start a training."""
    process = _FORK.Process(target=_run, args=(options, environment or {}))
    process.start()
    return process


def run_ranks(options: TrainOltrOptions, world: int) -> list[int | None]:
    """Run a training in ``world`` processes, as torchrun would; return their exit codes."""
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
