"""Where the figures of training go besides the run directory: TensorBoard, Weights & Biases.

Both are optional packages and write what they are told, no more: a training has one log a trial
(or one in all), and every log has figures by step.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from alphafix.errors import InputError, MissingPackageError
from alphafix.locks import make_folders, remove_empty
from alphafix.reading.boundary import real

logger = logging.getLogger(__name__)

LoggerName = Literal["tensorboard", "wandb"]

PROJECT = "alphafix"  # of Weights & Biases, unless WANDB_PROJECT says otherwise


class Log(Protocol):
    """Takes the figures of one training or trial."""

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Record figures of a step (an epoch, say); steps go up."""

    def close(self) -> None:
        """Write what is still held back."""


@dataclass(frozen=True)
class Destinations:
    """Which loggers are wanted.

    Attributes:
        tensorboard: Folder of TensorBoard's files, one folder a log in it.
        wandb: Folder in which Weights & Biases makes its folder `wandb`.
        group: Name under which Weights & Biases lists the logs together.
    """

    tensorboard: Path | None = None
    wandb: Path | None = None
    group: str | None = None

    @classmethod
    def of(
        cls, names: Sequence[LoggerName], run: Path, *, tensorboard: Path | None = None
    ) -> Destinations:
        """The loggers of a command line: in the run directory, or ``tensorboard`` elsewhere."""
        if tensorboard is None and "tensorboard" in names:
            tensorboard = run / "tensorboard"
        return cls(tensorboard, run if "wandb" in names else None, real(run).name)

    def __bool__(self) -> bool:
        """Whether any logger is wanted."""
        return self.tensorboard is not None or self.wandb is not None

    def require(self) -> None:
        """Check before the work that its figures can be logged after it.

        Raises:
            MissingPackageError: If a package is not installed.
            InputError: If Weights & Biases would refuse the figures.
        """
        if self.tensorboard is not None:
            _package("torch.utils.tensorboard", "tensorboard")
        if self.wandb is not None:
            _require_account(_package("wandb", "wandb"))

    @contextlib.contextmanager
    def open(self, name: str, config: Mapping[str, Any]) -> Iterator[Log]:
        """Open the log ``name`` of every wanted logger; ``config`` says how it came about.

        Raises:
            MissingPackageError: If a package is not installed.
        """
        logs: list[Log] = []
        with contextlib.ExitStack() as stack:
            if self.tensorboard is not None:
                logs.append(_TensorBoard(self.tensorboard / name))
                stack.callback(logs[-1].close)
            if self.wandb is not None:
                logs.append(_Wandb(self.wandb, name, self.group, config))
                stack.callback(logs[-1].close)
            yield _All(logs)


class _All:
    """Several logs as one."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def add(self, figures: Mapping[str, float], step: int) -> None:
        for log in self._logs:
            log.add(figures, step)

    def close(self) -> None:
        for log in self._logs:
            log.close()


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        package = _package("torch.utils.tensorboard", "tensorboard")
        self._writer = package.SummaryWriter(str(folder))

    def add(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(
        self, folder: Path, name: str, group: str | None, config: Mapping[str, Any]
    ) -> None:
        package = _package("wandb", "wandb")
        made = make_folders(folder)
        try:
            self._run = package.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                dir=str(folder),
                name=name,
                group=group,
                config=dict(config),
                reinit="create_new",  # a run of the caller's own stays as it is
                settings=package.Settings(silent=True, console="off"),  # stdout is the result's
            )
        except BaseException:
            remove_empty(made)
            raise
        sync = f"`wandb sync {Path(self._run.dir).parent}` uploads it"
        where = sync if self._run.offline else self._run.url
        logger.info("Weights & Biases: %s: %s", name, where)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def _package(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"the logger {extra} needs a package that is not installed: {error}",
            todo=f"pip install 'alphafix[{extra}]'",
        ) from error


def _require_account(package: Any) -> None:
    """Weights & Biases uploads to an account, unless it is told to work offline."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    try:
        package.login(verify=False)
    except package.Error as error:
        raise InputError(
            f"Weights & Biases does not know whose account the figures are for: {error}",
            todo="run `wandb login` (or set WANDB_API_KEY), or set WANDB_MODE=offline and upload "
            "later with `wandb sync`",
        ) from error
