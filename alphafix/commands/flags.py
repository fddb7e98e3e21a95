"""Command-line flags made from an options model, so that both can never differ."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from alphafix.commands.options import CommandOptions, Flag

Options = TypeVar("Options", bound=CommandOptions)

_ENVIRONMENT = {"run": "ALPHAFIX_RUN"}


def takes(model: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make ``command(options, **rest)`` a function with one flag a field of ``model``.

    Parameters of the command other than the first stay as they are.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters = [_parameter(name, field) for name, field in model.model_fields.items()]

        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            rest = {p.name: values.pop(p.name) for p in own}
            command(_validated(model, values), **rest)

        keyword = inspect.Parameter.KEYWORD_ONLY
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*parameters, *(p.replace(kind=keyword) for p in own)]
        )
        return wrapper

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = next((item for item in field.metadata if isinstance(item, Flag)), Flag())
    annotation: Any = field.annotation
    default = field.get_default(call_default_factory=True)
    if "tuple" in str(annotation):
        # A flag that may be repeated; the model turns the words into its own types.
        annotation = list[str]
        default = [str(item) for item in default or ()]
    common: dict[str, Any] = {"help": field.description, "metavar": flag.metavar}
    if flag.argument:
        info: Any = typer.Argument(**common, show_default=False)
    else:
        shown = default is not None and default is not False and default != []
        info = typer.Option(
            *(flag.names or (_long_name(name, annotation, default),)),
            **common,
            show_default=shown,
            envvar=_ENVIRONMENT.get(name),
        )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=... if field.is_required() else default,
        annotation=Annotated[annotation, info],
    )


def _long_name(name: str, annotation: object, default: object) -> str:
    long = "--" + name.replace("_", "-")
    # A switch that is off by itself needs no opposite; any other does.
    two_sided = "bool" in str(annotation) and default is not False
    return f"{long}/--no-{long[2:]}" if two_sided else long


def _validated(model: type[Options], values: dict[str, Any]) -> Options:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # a rule about several flags, which names them itself
            raise typer.BadParameter(str(first["ctx"]["error"])) from error
        name = str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(
            f"{first['msg']} (got {first['input']!r})", param_hint=f"--{name}"
        ) from error
