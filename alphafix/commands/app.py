"""The entry point: the commands, loaded only when used, and what becomes of errors."""

from __future__ import annotations

import atexit
import difflib
import gc
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from alphafix.commands import LINES, group
from alphafix.commands.kept_help import FLAGS, KeptHelp, asked_for
from alphafix.errors import AlphafixError, GateError, Interruption, on_command_line
from alphafix.interrupts import TOLD, end_at_once
from alphafix.load import begin as begin_measuring
from alphafix.shown import visible


class Commands(TyperGroup):
    """Loads a command's module when the command is used, so that --help is instant."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands in the order of a user's work."""
        return list(LINES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one command."""
        return typer.main.get_command(parser_of(cmd_name)) if cmd_name in LINES else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; where a command's help is all that is asked for, show what is kept of it."""
        if not ctx.resilient_parsing and (command := asked_for(args)):
            KeptHelp(command).make_context(command.name, args[-1:], parent=ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; for a name that is none, say which are like it."""
        name = args[0]
        if name not in LINES and not name.startswith("-") and not ctx.resilient_parsing:
            alike = difflib.get_close_matches(name, LINES)
            more = f" Did you mean {' or '.join(alike)}?" if alike else ""
            ctx.fail(f"No such command '{name}'.{more}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(LINES.items()))

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit codes 0 done, 1 failed, 2 usage, 3 a gate was not met."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            told = TOLD
            if isinstance(interrupt, Interruption):
                told = f"error: interrupted; {interrupt.text(on_command_line)}"
            _fail(told)
            raise typer.Exit(1) from None
        except BrokenPipeError:  # whoever read the result has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except AlphafixError as error:
            if ctx.params["debug"]:
                raise
            from alphafix.commands.flags import spelling_of

            models = (command.options for command in group(ctx.invoked_subcommand))
            _fail(f"error: {error.text(spelling_of(*models, stage=error.stage))}")
            raise typer.Exit(3 if isinstance(error, GateError) else 1) from None
        except (OSError, MemoryError, RecursionError) as error:
            if ctx.params["debug"]:
                raise
            _fail(f"error: {visible(_in_words(error))}")
            raise typer.Exit(1) from None


def _fail(text: str) -> None:
    from alphafix.commands import console

    console.fail(text)


def _in_words(error: BaseException) -> str:
    """What the system says, in one sentence."""
    if isinstance(error, OSError):
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*names, error.strerror or str(error)])
    kind = "there is too little memory" if isinstance(error, MemoryError) else "nested too deep"
    return f"{kind}: {error}" if str(error) else kind


def parser_of(name: str) -> typer.Typer:
    """The parser of a command, or of a group of them, made from what the command says of itself."""
    from alphafix.commands.flags import add_command

    commands = group(name)
    parser = typer.Typer(rich_markup_mode=None, add_completion=False)
    if commands[0].name != name:
        example = f"Example: {commands[-1].example}"
        parser = typer.Typer(
            rich_markup_mode=None,
            add_completion=False,
            no_args_is_help=True,
            context_settings={"help_option_names": FLAGS},
            help=LINES[name],
            epilog=example,
        )
    for command in commands:
        add_command(parser, command)
    return parser


app = typer.Typer(
    name="alphafix",
    cls=Commands,
    context_settings={"help_option_names": FLAGS},
    help="Correct the rare classes of a trained classifier, after the fact.",
    epilog="Example: alphafix demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"alphafix {version('alphafix')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


def soon_sleep() -> None:
    """Make threads of OpenMP sleep that wait, unless the environment says otherwise; before torch.

    By default they turn in a loop for a millisecond: a training takes five times as long where
    another process has one of two cores. With so few turns it takes twice as long, and a tenth
    longer than by default where the cores are free.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _suit_torch() -> None:
    """Settings that must be made before torch is loaded; those of the environment come first."""
    soon_sleep()
    # What torch loads stays. Looking through it for garbage at Python's own rate, and once more at
    # the end, takes a quarter of the time of the import.
    gc.set_threshold(20_000, 20, 50)
    atexit.register(gc.freeze)


def main() -> None:
    """Run the command line; a request to end is heeded like an interrupt, so that all is tidied."""
    end_at_once()
    begin_measuring()
    _suit_torch()
    try:
        app()
    finally:
        end_at_once()  # all is done, and told of
