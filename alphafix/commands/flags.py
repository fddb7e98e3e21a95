"""The command line of a command, made from its options model, so that both can never differ."""

from __future__ import annotations

import inspect
import os
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from alphafix.commands import console
from alphafix.commands.bars import Bars
from alphafix.commands.command import Command, Watch
from alphafix.commands.following import next_command
from alphafix.commands.options import CommandOptions
from alphafix.errors import Spelling, on_command_line, spelt
from alphafix.progress import silent

_ENVIRONMENT = {"run": "ALPHAFIX_RUN"}

_JSON = typer.Option("--json", help="Print the result as JSON.")


def add_command(parser: typer.Typer, command: Command) -> None:
    """Give ``parser`` a command with one flag a field of its options model, and --json."""

    def call(json: bool, **values: Any) -> None:
        run_command(command, _validated(command.options, values), as_json=json)

    parameters = [_parameter(name, field) for name, field in command.options.model_fields.items()]
    json = inspect.Parameter(
        "json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, _JSON]
    )
    call.__signature__ = inspect.Signature([*parameters, json])  # type: ignore[attr-defined]
    call.__doc__ = command.help
    parser.command(command.name.rpartition(" ")[2], epilog=f"Example: {command.example}")(call)


def run_command(command: Command, options: CommandOptions, *, as_json: bool) -> None:
    """Do a command and show its result.

    Raises:
        AlphafixError: What the work raises, or the failure of its result, after it was shown.
    """
    # Under torchrun one process speaks for all.
    first = os.environ.get("RANK", "0") == "0"
    if first:
        console.show_log(command.log)
    found = command.work(options, Watch(Bars(), console.tell) if first else Watch(silent))
    if not first:
        return
    shown = command.show(found, options)
    if as_json:
        console.print_json(found.to_dict())
    else:
        console.tell(*shown.told)
        if shown.result:
            console.print_result(shown.result)
        if shown.see is not None:
            console.note(f"look at: {shown.see}")
        if shown.failure is None and (line := next_command(command, found, options)) is not None:
            console.note(f"next: {line}")
    if shown.failure is not None:
        raise shown.failure


def spelling_of(*models: type[CommandOptions]) -> Spelling:
    """How options are spelt to who typed a command: by the flags that its model gives them."""
    flags = {
        name: names[-1]
        for model in models
        for name, field in model.model_fields.items()
        if (names := _extra(field)["flags"])
    }

    def spelling(command: str | None, options: tuple[tuple[str, str | None], ...]) -> str:
        return on_command_line(command, options, flags if command is None else {})

    return spelling


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    extra = _extra(field)
    annotation: Any = field.annotation
    default = field.get_default(call_default_factory=True)
    if get_origin(annotation) is tuple:
        # A flag that may be repeated; the model turns the words into its own types.
        annotation = list[str]
        default = [str(item) for item in default or ()]
    elif _is_number_or_word(annotation):
        annotation, default = str, str(default)
    common: dict[str, Any] = {"help": field.description, "metavar": extra["metavar"]}
    if extra["argument"]:
        info: Any = typer.Argument(**common, show_default=False)
    else:
        shown = default is not None and default is not False and default != []
        info = typer.Option(
            *(extra["flags"] or (_long_name(name, annotation, default),)),
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


def _extra(field: FieldInfo) -> dict[str, Any]:
    """What `alphafix.commands.options.flag` says of a field."""
    assert isinstance(field.json_schema_extra, dict)
    return dict(field.json_schema_extra)


def _long_name(name: str, annotation: object, default: object) -> str:
    long = "--" + name.replace("_", "-")
    # A switch that is off by itself needs no opposite; any other does.
    two_sided = bool in _alternatives(annotation) and default is not False
    return f"{long}/--no-{long[2:]}" if two_sided else long


def _alternatives(annotation: object) -> tuple[object, ...]:
    """The types of ``bool | None``, or the one type."""
    union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)


def _is_number_or_word(annotation: object) -> bool:
    """Whether it is ``float | Literal["auto"]`` or the like; the model tells them apart."""
    kinds = {
        get_origin(one) is Literal for one in _alternatives(annotation) if one is not type(None)
    }
    return kinds == {True, False}


def _validated(model: type[CommandOptions], values: dict[str, Any]) -> CommandOptions:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # a rule about several flags, which names them itself
            message = spelt(str(first["ctx"]["error"]), spelling_of(model))
            raise typer.BadParameter(message) from error
        name = str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(
            f"{first['msg']} (got {first['input']!r})", param_hint=f"--{name}"
        ) from error
