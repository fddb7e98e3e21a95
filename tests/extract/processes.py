"""Extractions in processes of their own, without paying for the import of torch each time."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from alphafix.commands.extract.options import ExtractOptions
from tests.stages import extract

_FORK = multiprocessing.get_context("fork")


def _run(options: ExtractOptions, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        extract(options)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # pytest's own exit handlers belong to the parent


def start(options: ExtractOptions, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Start an extraction."""
    process = _FORK.Process(target=_run, args=(options, environment or {}))
    process.start()
    return process


def run_ranks(options: ExtractOptions, world: int) -> list[int | None]:
    """Run an extraction in ``world`` processes, as torchrun would; return their exit codes."""
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
        process.join(60)
    return [process.exitcode for process in processes]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
