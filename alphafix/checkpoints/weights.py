"""Strict loading of weights: what does not fit is named, never filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from alphafix.checkpoints.formats.opening import load_state_dict, open_checkpoint
from alphafix.checkpoints.formats.sections import under_names_of
from alphafix.errors import InputError, option, some


def read_weights(
    file: Path, *, section: str = "", spec: str, averaged_first: bool = False
) -> dict[str, Tensor]:
    """Load the weights of a file that holds them once, or of the part of it that is named.

    Args:
        file: The file (see `load_state_dict`).
        section: The part of a torch file, or "" for the only one.
        spec: The model that they are for.
        averaged_first: Whether the library that reads such files takes averaged weights where
            there are others beside them (timm does).

    Raises:
        InputError: If it holds several, and it is not certain which one the user's code loads.
        FileFormatError: As `load_state_dict`.
    """
    there = open_checkpoint(file, section=section).sections
    if section and section not in there:
        raise InputError(
            f"{file} has no part {section}",
            got=some(there) or "weights without parts",
            expected=f"a part that {option('section')} names",
            todo=f"leave {option('section')} out, or name one that is there",
        )
    if len(there) > 1 and not section and not averaged_first:
        raise InputError(
            f"{file} holds the weights of {spec} more than once",
            got=" and ".join(there),
            expected="your word for those that your code loads: the others stay as they are",
            todo="for example " + " or ".join(option("section", name) for name in there[:2]),
        )
    return load_state_dict(file, section=section)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, file: Path, spec: str) -> None:
    """Load ``state`` into ``module``, under the module's names (see `named_for`).

    Raises:
        InputError: If a name is missing or unexpected, or a shape differs.
    """
    own, state = module.state_dict(), named_for(module, state)
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        name for name, tensor in own.items() if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        told = [
            f"{name} {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
            for name in shapes
        ]
        found = [
            f"{what}: {some(names)}"
            for what, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("other shape", told),
            )
            if names
        ]
        advice = _arguments({*missing, *unexpected}, [(state[n], own[n], n) for n in shapes])
        raise InputError(
            f"{file} does not hold the weights of {spec}",
            got="; ".join(found),
            expected=f"all {len(own)} tensors of the model, and no other",
            todo="check the name of the backbone" + advice + f"; a model that your own code makes "
            f"or changes (another head, say) is {option('backbone', 'python:module:function')}; "
            "every tensor must fit, nothing is guessed",
        )
    module.load_state_dict(dict(state), strict=True)


def named_for(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of ``module``: without what all begin with, if none fits yet."""
    names = under_names_of(module.state_dict().keys(), list(state))
    return {names[name]: tensor for name, tensor in state.items()}


def _arguments(others: set[str], shapes: Sequence[tuple[Tensor, Tensor, str]]) -> str:
    """What the differences say of arguments that the model was made with."""
    found = []
    for stored, own, name in shapes:
        if "pos_embed" in name or "relative_position" in name:
            found.append("img_size=N")
        elif stored.ndim == own.ndim == 4 and stored.shape[0] == own.shape[0]:
            found.append(f"in_chans={stored.shape[1]}")
    if any("fc_norm." in name for name in others):
        found.append("global_pool=avg (or token)")
    if not found:
        return ""
    said = " and ".join(option("model_arg", argument) for argument in dict.fromkeys(found))
    return f", and say what it was made with: {said}"


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
            todo="check the name of the backbone; a model whose head was replaced is "
            f"{option('backbone', 'python:module:function')}, a function that makes it",
        )
    return int(state[f"{name}.weight"].shape[0])
