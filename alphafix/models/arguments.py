"""Arguments that a model was made with, as the user writes them: NAME=VALUE."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from typing import Any

from alphafix.errors import InputError, option

# What YAML and JSON call what Python writes otherwise.
_WORDS = {"true": True, "false": False, "null": None}


def arguments(given: Iterable[str]) -> dict[str, Any]:
    """Read arguments; values are Python's or JSON's, and any other word is a text.

    Raises:
        InputError: If one has no name or no value, or is given twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise InputError(
                f"{option('model_arg')} is not understood",
                got=repr(text) + (", a second time" if name in found else ""),
                expected="NAME=VALUE, such as global_pool=max or img_size=384",
            )
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def written(args: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments as `arguments` reads them."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in args.items())
