"""The command line of a command, made from its options model, so that both can never differ."""

from __future__ import annotations

import inspect
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from alphafix.commands import completion
from alphafix.commands.command import Command
from alphafix.commands.kept_help import FLAGS
from alphafix.commands.options import GROUPS, CommandOptions, is_path
from alphafix.errors import Pairs, Spelling, on_command_line, spelt
from alphafix.shown import without_secrets

STAGES = ("extract", "neighbors", "train", "evaluate", "patch", "report")
"""The stages of `fix`, whose options can be set there."""

_ENVIRONMENT = {"run": "ALPHAFIX_RUN"}

_JSON = typer.Option("--json", help="Print the result as JSON.  [default: off]", show_default=False)


class Grouped(TyperCommand):
    """A command whose --help has its options in groups."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; of an option of a stage, where there is --set for it, say so."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            unknown = getattr(error, "option_name", None)  # as parsers have it of one that is none
            if unknown and any("--set" in parameter.opts for parameter in self.params):
                error.message += _how_to_set(unknown)  # type: ignore[attr-defined]
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the arguments, the command's own options, and each group of the others."""
        sections: dict[str, list[Any]] = {"Arguments": [], "Options": []}
        sections |= {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name != "argument":
                sections[_group_of(parameter.name)].append(record)
            elif parameter.metavar is None:
                sections["Arguments"].append(record)
            else:  # without the Python type that typer puts behind it
                sections["Arguments"].append((parameter.metavar, record[1]))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _group_of(name: str) -> str:
    """The group of an option in --help."""
    return next((group for group, names in GROUPS.items() if name in names), "Options")


def _how_to_set(flag: str) -> str:
    """A sentence on an option of a stage; nothing of one that no stage has."""
    from alphafix.commands import COMMANDS

    name = flag.lstrip("-").replace("-", "_")
    stages = [stage for stage in STAGES if name in COMMANDS[stage].options.model_fields]
    return f"; it is an option of {stages[0]}: --set {stages[0]}.{name}=VALUE" if stages else ""


def add_command(parser: typer.Typer, command: Command) -> None:
    """Give ``parser`` a command with one flag a field of its options model, and --json."""

    def call(context: typer.Context, json: bool, **values: Any) -> None:
        # What an option implies for another depends on whether that one was given.
        given = {name: value for name, value in values.items() if _is_given(context, name)}
        options = _validated(command.options, given)
        # What shows results is not loaded for --help.
        from alphafix.commands.running import run_command

        def spellings(stage: str | None) -> Spelling:
            return spelling_of(command.options, stage=stage)

        run_command(command, options, as_json=json, spellings=spellings)

    parameters = [_parameter(name, field) for name, field in command.options.model_fields.items()]
    json = inspect.Parameter(
        "json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, _JSON]
    )
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    signature = inspect.Signature([context, *parameters, json])
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__doc__ = command.help
    name, example = command.name.rpartition(" ")[2], f"Example: {command.example}"
    settings = {"help_option_names": FLAGS}
    parser.command(name, cls=Grouped, epilog=example, context_settings=settings)(call)


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a user gave an option, on the command line or in the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def spelling_of(*models: type[CommandOptions], stage: str | None = None) -> Spelling:
    """How options are spelt to who typed a command: by the flags that its model gives them.

    Arguments have none, and are spelt as in help. Options that the command has not, but its
    ``stage`` has, are set with ``--set``.
    """
    flags: dict[str, str] = {}
    for model in models:
        for name, field in model.model_fields.items():
            extra = _extra(field)
            if extra["flags"]:
                flags[name] = extra["flags"][-1]
            elif extra["argument"]:
                flags[name] = extra["metavar"] or name

    own = {name for model in models for name in model.model_fields}
    own |= {flag.removeprefix("--") for flag in flags.values()}

    def spelling(command: str | None, options: Pairs) -> str:
        name = options[0][0] if options else ""
        if command is None and name not in own and (where := _set_at(stage, name)) is not None:
            words = {"True": "true", "False": "false", None: "VALUE"}
            several = [words.get(value, value) for _, value in options]
            value = several[0] if len(several) == 1 else f"[{', '.join(map(str, several))}]"
            return on_command_line(None, (("set", f"{where}.{name}={value}"),))
        return on_command_line(command, options, flags if command is None else {})

    return spelling


def _set_at(stage: str | None, name: str) -> str | None:
    """The stage of a chain that an option is set for: the one at work (train.2), or that has it."""
    from alphafix.commands import COMMANDS

    if stage is None:
        return None
    stages = (stage, *STAGES)
    has = (one for one in stages if name in COMMANDS[one.partition(".")[0]].options.model_fields)
    return next(has, None)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    extra = _extra(field)
    annotation: Any = field.annotation
    default = field.get_default(call_default_factory=True)
    parser = None
    if get_origin(annotation) is tuple:
        # A flag that may be repeated; the model turns the words into its own types.
        annotation = list[str]
        default = [str(item) for item in default or ()]
    elif _is_number_or_word(annotation):
        annotation, default = str, str(default)
    elif is_path(annotation):
        default, parser = None if default is None else str(default), path
    completes = extra["complete"]
    common: dict[str, Any] = {
        "metavar": extra["metavar"] or _word_for(annotation),
        "parser": parser,
        "show_default": False,
        "autocompletion": None if completes is None else getattr(completion, completes),
    }
    said = "" if field.is_required() else f"  [default: {_default(default, extra)}]"
    if extra["argument"]:
        info: Any = typer.Argument(**common, help=f"{field.description}{said}")
    else:
        info = typer.Option(
            *(extra["flags"] or (_long_name(name, annotation, default),)),
            **common,
            help=f"{field.description}{said}",
            envvar=_ENVIRONMENT.get(name),
        )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=... if field.is_required() else default,
        annotation=Annotated[annotation, info],
    )


def path(text: str) -> str:
    """A path as it was typed: the model makes it one, and sees how many slashes it has."""
    return text


def _word_for(annotation: object) -> str | None:
    """What stands in the help text for a value that has no word of its own; None for a choice."""
    words = {int: "INTEGER", float: "NUMBER", str: "TEXT", list[str]: "TEXT"}
    kinds = _alternatives(annotation)
    return next((word for kind, word in words.items() if kind in kinds), None)


def _default(value: object, extra: dict[str, Any]) -> str:
    """What holds without an option, in words."""
    if extra["otherwise"] is not None:
        return str(extra["otherwise"])
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ",".join(value) or "none"
    return "none" if value in (None, "") else str(value)


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
            message = without_secrets(spelt(str(first["ctx"]["error"]), spelling_of(model)))
            raise typer.BadParameter(message) from error
        name = str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(
            without_secrets(f"{first['msg']} (got {first['input']!r})"), param_hint=f"--{name}"
        ) from error
