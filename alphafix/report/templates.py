"""The HTML templates of this folder; all text that is put into them is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from alphafix.shown import in_one_line, visible


def _shown(value: object) -> object:
    """Text as a person may see it (`alphafix.shown`); markup and numbers as they are."""
    return visible(value) if type(value) is str else value


def _data(value: object, **how: Any) -> str:
    """Data for the page's script as JSON; what the script shows of it must not act either."""
    return json.dumps(_visible_in(value), **how)


def _visible_in(value: object) -> object:
    if isinstance(value, str):
        return in_one_line(value)
    if isinstance(value, Mapping):
        return {name: _visible_in(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_visible_in(item) for item in value]
    return value


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("alphafix.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    made.policies["json.dumps_function"] = _data
    made.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return made


def render(template: str, **values: Any) -> str:
    """Fill a template of ``alphafix/report/templates``."""
    return _environment().get_template(template).render(values)


def source(name: str) -> str:
    """A file of that folder as it is."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
