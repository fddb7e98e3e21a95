"""What the shell offers for the value of an option; nothing heavy is loaded for it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KINDS = ("timm", "torchvision", "python", "hf", "oltr", "torchscript", "export", "onnx")
"""What a backbone can begin with, as in `alphafix.models.loading`, which loads torch."""

_REGISTERED = re.compile(r"^@register_model(?:\(\))?\n(?:@.*\n)*def (\w+)", re.MULTILINE)


def methods(incomplete: str) -> list[str]:
    """Methods of `alphafix train`."""
    from alphafix.rivals import LINEAR_METHODS

    return _beginning(("alphanet", "auto", *LINEAR_METHODS), incomplete)


def rivals(incomplete: str) -> list[str]:
    """Methods of `alphafix compare`, the last of several."""
    from alphafix.rivals import RIVALS

    return _last_of_several(RIVALS, incomplete)


def linear_methods(incomplete: str) -> list[str]:
    """What `alphafix train --method auto` chooses from, the last of several."""
    from alphafix.rivals import LINEAR_METHODS

    return _last_of_several(("alphanet", *LINEAR_METHODS), incomplete)


def _last_of_several(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(names, last)]


def backbones(incomplete: str) -> list[str]:
    """Kinds of backbones, and the names of models in the libraries that have names."""
    kind, colon, name = incomplete.partition(":")
    if not colon:
        return [f"{one}:" for one in _beginning(KINDS, incomplete)]
    if kind not in ("timm", "torchvision"):
        return []
    # Not in bash, which takes a colon for the end of a word unless COMP_WORDBREAKS lacks it.
    return [f"{kind}:{one}" for one in _beginning(_models(kind), name)]


def oltr_methods(incomplete: str) -> list[str]:
    """Methods of `alphafix train-oltr`."""
    from alphafix.oltr.training.methods import METHODS

    return _beginning(METHODS, incomplete)


def classes(ctx: Any, incomplete: str) -> list[str]:
    """Names of classes: the folders in --data, or in its part train."""
    data = ctx.params.get("data")
    if data is None:
        return []
    parts = [Path(data, "train"), Path(data)]
    folder = next((part for part in parts if part.is_dir()), None)
    names = [] if folder is None else sorted(p.name for p in folder.iterdir() if p.is_dir())
    return _beginning(names, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _models(package: str) -> list[str]:
    """Models of a library, from its source: importing it would take seconds."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return []
    files = (Path(found.origin).parent / "models").rglob("*.py")
    names = (_REGISTERED.findall(file.read_text(encoding="utf-8")) for file in files)
    return sorted({name for some in names for name in some})
