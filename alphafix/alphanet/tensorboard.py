"""The history of a sweep for TensorBoard (an optional package)."""

from __future__ import annotations

from pathlib import Path

from alphafix.correction import Trials
from alphafix.errors import MissingPackageError


def write_history(trials: Trials, folder: Path) -> None:
    """Write loss and validation accuracy of each trial as scalars.

    Raises:
        MissingPackageError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError(
            "--tensorboard needs TensorBoard, which is not installed",
            todo="pip install 'alphafix[tensorboard]'",
        ) from error
    for record in trials.settings:
        name = f"rho-{record['rho']:g}-k-{record['k']}-seed-{record['seed']}"
        with SummaryWriter(str(folder / name)) as writer:
            for epoch in record["history"]:
                for figure in ("loss", "val_overall"):
                    if figure in epoch:
                        writer.add_scalar(figure, epoch[figure], epoch["epoch"])
