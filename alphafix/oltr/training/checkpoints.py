"""What a training starts from: its own state after an epoch, or the weights of others.

``checkpoint/`` in the output folder holds ``plan.json`` (what is trained, on what and how; see
`alphafix.run.artifact`) and ``stage-1.pt`` and ``stage-2.pt``: the state at the end of the last
epoch of each stage, in tensors and plain values that `torch.load` reads without running any code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from alphafix.checkpoints import load_state_dict
from alphafix.checkpoints.formats.torch_format import load_torch
from alphafix.checkpoints.weights import load_strictly
from alphafix.errors import AlphafixError, FileFormatError, InputError, counted, option
from alphafix.files import atomic_path, read_object
from alphafix.oltr.models.backbones import Backbone
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.training.loop import StageState
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.run.artifact import PLAN
from alphafix.shown import in_list

FOLDER = "checkpoint"
STAGES = (1, 2)


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, output: Path) -> None:
        self.folder = output / FOLDER

    def path(self, stage: int) -> Path:
        """File of a stage's state."""
        return self.folder / f"stage-{stage}.pt"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all stages, there or not."""
        return tuple(self.path(stage) for stage in STAGES)

    def save(self, state: StageState) -> None:
        """Write a state, whole or not at all."""
        with atomic_path(self.path(state["stage"]), overwrite=True) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # torch's own writer, for a full disk
                raise OSError(str(error)) from error

    def states(self) -> dict[int, StageState]:
        """The last state of each stage that was begun.

        Raises:
            FileFormatError: If one is damaged.
        """
        return {n: read_checkpoint(self.path(n)) for n in STAGES if self.path(n).is_file()}

    def remove_damaged(self) -> None:
        """Remove the states that cannot be read, so that their stages begin again."""
        for path in self.files:
            try:
                if path.is_file():
                    read_checkpoint(path)
            except FileFormatError:
                path.unlink()

    def first_stage(self) -> tuple[Path, tuple[str, ...]]:
        """File of the first stage's state, and the class names of the training.

        Raises:
            InputError: If there is none.
        """
        path = self.path(1)
        if not path.is_file():
            raise InputError(
                f"{self.folder.parent} holds no first stage",
                got=f"no {path}",
                expected="an output folder of train-oltr",
                todo=f"correct {option('first_stage')}",
            )
        plan = self.folder / PLAN
        with reading(plan, "the plan of a training"):
            names = read_object(plan).get("names", ()) if plan.is_file() else ()
            return path, typed(tuple[str, ...], names, "names")


def read_checkpoint(path: Path) -> StageState:
    """Read a state that `Checkpoints.save` wrote.

    Raises:
        FileFormatError: If it is damaged.
    """
    try:
        state: StageState = load_torch(path)
        return state
    except AlphafixError as error:
        raise FileFormatError(
            f"the checkpoint {path} is damaged",
            got=error.got,
            expected="a file that train-oltr wrote",
            todo=f"give {option('overwrite', True)} to begin again",
        ) from error


def load_pretrained(backbone: Backbone, file: Path, name: str) -> None:
    """Load a checkpoint of timm or torchvision into a backbone; its head alone is left out.

    Raises:
        InputError: If a tensor is missing, unexpected, or of another shape.
    """
    body: Any = getattr(backbone.body, "model", backbone.body)  # timm's models are wrapped
    config = getattr(body, "pretrained_cfg", None) or {}
    head = config.get("classifier") or "fc"
    heads = (head,) if isinstance(head, str) else tuple(head)
    state = {
        key: tensor
        for key, tensor in load_state_dict(file).items()
        if not any(key.startswith(f"{one}.") for one in heads)
    }
    load_strictly(body, state, file=file, spec=name)


def load_first_stage(model: LongTailModel, output: Path, names: tuple[str, ...]) -> None:
    """Load the best weights of another training's first stage.

    Raises:
        InputError: If there is none, or it is of another architecture or other classes.
    """
    file, theirs = Checkpoints(output).first_stage()
    if theirs != names:
        raise InputError(
            f"{file} was trained on other classes, or on classes in another order",
            got=f"{counted(len(theirs), 'class')}, {', '.join(theirs[:3])}, ...",
            expected=f"{counted(len(names), 'class')}, {', '.join(map(in_list, names[:3]))}, ...",
            todo="give a first stage that was trained on the same classes",
        )
    weights = read_checkpoint(file)["best_weights"]
    load_strictly(model, weights, file=file, spec="the first stage")
