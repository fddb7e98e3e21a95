"""The part of a torch file that the model's weights are in, and the names that they have there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from alphafix.checkpoints.formats._skeleton import Inert, View, walk

# Where training scripts (timm, Lightning, DeepSpeed and others) keep weights beside other things.
# Averaged weights come first, as in timm's load_state_dict: they are the ones that were evaluated.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
SECTIONS = (*AVERAGED, "state_dict", "model_state_dict", "model", "module")

# What wrappers (DataParallel, torch.compile) put before every name.
WRAPPERS = ("module.", "_orig_mod.")


def sections_in(data: Mapping[Any, Any]) -> tuple[str, ...]:
    """Names of the sections of a file, the first of which is used unless another is asked for.

    Those of the usual names, or else a single one that is a table of tensors.
    """
    known = tuple(name for name in SECTIONS if _holds_tensors(data.get(name)))
    if known or any(isinstance(value, View) for value in data.values()):
        return known
    tables = [name for name, value in data.items() if isinstance(name, str) and _is_table(value)]
    return tuple(tables) if len(tables) == 1 else ()


def _holds_tensors(value: object) -> bool:
    """Whether a part has weights in it, and not settings or a name."""
    return isinstance(value, (Mapping, Inert)) and next(walk(value), None) is not None


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, View) for item in value.values())


def find_section(data: Mapping[Any, Any], *, wanted: str = "") -> str:
    """Name of the section to use, or "" for a file that is a state dict itself."""
    there = sections_in(data)
    return wanted if wanted in there else there[0] if there else ""


def section_of(name: str) -> str:
    """The section that a stored name begins with, or ""."""
    first = name.partition(".")[0]
    return first if first in SECTIONS else ""


def without_wrapper(names: list[str]) -> dict[str, str]:
    """Map each name to the one that the bare model has: without a prefix that all share."""
    found = {name: name for name in names}
    while wrapper := next((w for w in WRAPPERS if _all_begin(found.values(), w)), None):
        found = {name: short[len(wrapper) :] for name, short in found.items()}
    return found


def under_names_of(own: Collection[str], names: list[str]) -> dict[str, str]:
    """Map each stored name to the model's: without what all begin with, where no name fits yet.

    So weights of a model inside another module are found, be it Lightning's ``model.``.

    Args:
        own: The names that the model's tensors have.
        names: The names in the file.
    """
    found = {name: name for name in names}
    while found and not any(short in own for short in found.values()):
        prefix = next(iter(found.values())).partition(".")[0] + "."
        if not _all_begin(found.values(), prefix):
            return {name: name for name in names}
        found = {name: short[len(prefix) :] for name, short in found.items()}
    return found


def _all_begin(names: Collection[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)
