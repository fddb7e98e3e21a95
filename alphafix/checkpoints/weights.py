"""Strict loading of weights: what does not fit is named, never filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from alphafix.errors import InputError, option, some


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, file: Path, spec: str) -> None:
    """Load ``state`` into ``module``.

    Raises:
        InputError: If a name is missing or unexpected, or a shape differs.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)}, the model has {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        found = [
            f"{what}: {some(names)}"
            for what, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("other shape", shapes),
            )
            if names
        ]
        raise InputError(
            f"{file} does not hold the weights of {spec}",
            got="; ".join(found),
            expected=f"all {len(own)} tensors of the model, and no other",
            todo="check the name of the backbone; every tensor must fit, nothing is guessed",
        )
    module.load_state_dict(state, strict=True)


def require_weights(weights: Path | None, spec: str) -> Path:
    """Return the weights file, which this kind of backbone needs.

    Raises:
        InputError: If none was given.
    """
    if weights is None:
        raise InputError(
            f"the weights of {spec} are not given",
            expected=f"{option('weights', 'FILE')}, the checkpoint of your classifier",
            todo=f"add {option('weights')}; nothing is downloaded or left at random",
        )
    return weights


def num_classes_in(state: Mapping[str, Tensor], name: str, *, file: Path, spec: str) -> int:
    """C, as the weight of the layer ``name`` has it in the checkpoint.

    Raises:
        InputError: If there is no such tensor.
    """
    if f"{name}.weight" not in state:
        raise InputError(
            f"{file} does not hold the weights of {spec}",
            got=f"no tensor {name}.weight (there are {some(state)})",
            expected=f"the head that {spec} has",
            todo="check the name of the backbone",
        )
    return int(state[f"{name}.weight"].shape[0])
