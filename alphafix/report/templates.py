"""The HTML templates of this folder; all text that is put into them is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from alphafix.shown import visible


def _shown(value: object) -> object:
    """Text as a person may see it (`alphafix.shown`); markup and numbers as they are."""
    return visible(value) if type(value) is str else value


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
