"""Write a page for each command from its own --help; with --check, only say what is stale.

The pages lie beside this file. They are made from what the command line makes its parser of, so
they say what `alphafix COMMAND --help` says; the tests run this with --check. What --help says is
kept in the package too (`alphafix.commands.kept_help`), so that it is shown at once; --check leaves
that out, because some of its words are of the typer that is installed.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from alphafix.commands import COMMANDS, LINES, group, kept_help
from alphafix.commands.app import parser_of

FOLDER = Path(__file__).parent
KEPT = FOLDER.parents[1] / "alphafix/commands" / kept_help.FILE.name


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if stale.")
    check = parser.parse_args().check
    pages = {"README.md": index(), **{f"{name}.md": page(name) for name in LINES}}
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in pages | there if pages.get(name) != there.get(name))
    if check and stale:
        print(f"stale: {', '.join(stale)}; run python examples/commands/write.py", file=sys.stderr)
        return 1
    for name in stale:
        if name in pages:
            (FOLDER / name).write_text(pages[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    if not check:
        KEPT.write_text(helps(), encoding="utf-8")
    return 0


class Sections:
    """Takes what a command would have formatted as its options."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[str, str]]] = {}

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        """What is written within is of this title."""
        self.rows[title] = []
        yield

    def write_dl(self, rows: list[tuple[str, str]]) -> None:
        """Take flags and what they mean."""
        self.rows[list(self.rows)[-1]] += rows


def helps() -> str:
    """What `alphafix.commands.kept_help` reads."""
    kept = {}
    for name, command in COMMANDS.items():
        parser: Any = typer.main.get_command(parser_of(command.word))
        if name != command.word:
            parser = parser.commands[name.partition(" ")[2]]
        sections = Sections()
        context = parser.context_class(parser, info_name=name, **parser.context_settings)
        parser.format_options(context, sections)
        kept[name] = {"usage": parser.collect_usage_pieces(context), "sections": sections.rows}
    return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"


def index() -> str:
    """The page that lists the others."""
    rows = [f"| [{name}]({name}.md) | {what} |" for name, what in LINES.items()]
    return "\n".join(
        [
            "# Commands",
            "",
            "Each page says what `alphafix COMMAND --help` says. `alphafix --install-completion`",
            "makes the shell complete commands, flags and their values.",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def page(name: str) -> str:
    """The page of a command, with a section for each command in it."""
    made = parser_of(name)
    path = f"alphafix {name}"
    commands = made.registered_commands
    if commands[0].name == name:
        return "\n".join(_section(commands[0], f"# {path}"))
    lines = [*_opening(f"# {path}", LINES[name], f"Example: {group(name)[-1].example}")]
    for command in commands:
        lines += _section(command, f"## {path} {command.name}")
    return "\n".join(lines)


def _section(command: Any, title: str) -> Iterator[str]:
    yield from _opening(title, inspect.getdoc(command.callback) or "", command.epilog)
    yield from ("| | |", "|---|---|")
    parameters = inspect.signature(command.callback, eval_str=True).parameters.values()
    yield from (_row(one) for one in parameters if one.annotation is not typer.Context)
    yield ""


def _opening(title: str, text: str, epilog: str) -> Iterator[str]:
    yield from (title, "")
    for paragraph in text.split("\n\n"):
        yield from (" ".join(paragraph.split()), "")
    example = textwrap.wrap(
        epilog.removeprefix("Example: "), 93, break_long_words=False, break_on_hyphens=False
    )
    yield from ("```text", " \\\n  ".join(example), "```", "")


def _row(parameter: inspect.Parameter) -> str:
    annotation, info = get_args(parameter.annotation)
    choices = _choices(annotation)
    names = [info.metavar or parameter.name.upper()]
    if isinstance(info, typer.models.OptionInfo):
        value = "" if _is_switch(annotation) else f" {info.metavar or 'CHOICE'}"
        names = [f"{name}{value}" for name in _flags(info)]
    said = " ".join((info.help or "").split()).replace("|", "\\|")
    if choices:
        said += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    if parameter.default is inspect.Parameter.empty or parameter.default is ...:
        said += " Required."
    if info.envvar:
        said += f" Environment: `{info.envvar}`."
    return f"| {', '.join(f'`{name}`' for name in names)} | {said} |"


def _flags(info: Any) -> list[str]:
    """All its names; within Annotated, typer keeps the first one as its default."""
    declared = [info.default] if isinstance(info.default, str) else []
    return [name for one in (*declared, *info.param_decls) for name in one.split("/")]


def _is_switch(annotation: Any) -> bool:
    return bool in (annotation, *get_args(annotation))


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a Literal, or of one that may be None."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    inner = [_choices(one) for one in get_args(annotation) if one is not type(None)]
    return next((one for one in inner if one), ())


if __name__ == "__main__":
    sys.exit(main())
