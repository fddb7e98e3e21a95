"""Commands in processes of their own, without paying for the import of torch each time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

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


def become(folder: Path, environment: Mapping[str, str], streams: Sequence[str]) -> None:
    """Make this process, which has shown nothing yet, what a shell would start.

    Args:
        folder: Its working folder.
        environment: All its variables.
        streams: The files, pipes or terminals of stdin, stdout and stderr.
    """
    # They look at the terminal when they are loaded.
    assert not {"alphafix.commands.console", "alphafix.commands.bars"} & set(sys.modules)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf
    # What it starts is to be its own, not a child of the process that it was forked from.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for place, name in enumerate(streams):
        way = os.O_WRONLY | os.O_APPEND if place else os.O_RDONLY
        os.dup2(os.open(name, way | os.O_NOCTTY), place)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = _stream(0, "r", encoding)
    sys.stdout = _stream(1, "w", encoding)
    sys.stderr = _stream(2, "w", encoding, errors="backslashreplace")


def _stream(place: int, mode: str, encoding: str, errors: str = "strict") -> TextIO:
    made = open(place, mode, encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    assert not isinstance(made, bytes)
    return made  # type: ignore[return-value]


def alphafix(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], streams: Sequence[str]
) -> int | None:
    """The exit code of ``alphafix WORDS``; see `become` for the other arguments."""
    process = fork(_alphafix, words, folder, environment, streams)
    process.join()
    return process.exitcode


def start_alphafix(words: Sequence[str], folder: Path, told: Path) -> BaseProcess:
    """Start ``alphafix WORDS`` in a folder, as a process that may be sent signals.

    What it does not show is the start of Python and the import of torch; where these, or the end
    of processes that it starts itself, are under test, start Python instead.

    Args:
        words: What follows ``alphafix``.
        folder: Its working folder.
        told: A new folder for the files ``stdout`` and ``stderr``.
    """
    told.mkdir()
    streams = [told / "stdin", told / "stdout", told / "stderr"]
    for stream in streams:
        stream.touch()
    return fork(_alphafix, words, folder, dict(os.environ), [str(stream) for stream in streams])


def _alphafix(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], streams: Sequence[str]
) -> None:
    become(folder, environment, streams)
    from alphafix.commands.app import main

    sys.argv = ["alphafix", *words]
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


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
