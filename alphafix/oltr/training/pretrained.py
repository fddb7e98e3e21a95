"""Weights that a training starts from: all of them fit, or what does not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alphafix.checkpoints import load_state_dict
from alphafix.checkpoints.weights import load_strictly
from alphafix.errors import InputError
from alphafix.oltr.models.backbones import Backbone
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.training.checkpoints import Checkpoints, read_checkpoint


def load_pretrained(backbone: Backbone, file: Path, name: str) -> None:
    """Load a classifier's checkpoint into a backbone; its head alone is left out.

    Args:
        backbone: The backbone.
        file: A checkpoint of timm or torchvision, of any format.
        name: The backbone's name, for messages.

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

    Args:
        model: The first stage's model.
        output: Output folder of that training.
        names: Class names of this one.

    Raises:
        InputError: If there is none, or it is of another architecture or other classes.
    """
    file, theirs = Checkpoints(output).first_stage()
    if theirs != names:
        raise InputError(
            f"{file} was trained on other classes, or on classes in another order",
            got=f"{len(theirs)} classes, {', '.join(theirs[:3])}, ...",
            expected=f"{len(names)} classes, {', '.join(names[:3])}, ...",
            todo="give a first stage that was trained on the same classes",
        )
    weights = read_checkpoint(file)["best_weights"]
    load_strictly(model, weights, file=file, spec="the first stage")
