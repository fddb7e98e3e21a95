"""The entry point: the commands, loaded only when used, and what becomes of errors."""

from __future__ import annotations

import importlib
import keyword
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from alphafix.errors import AlphafixError, GateError, on_command_line

# Each command is the module of its name in this package; the text is its line in --help.
COMMANDS = {
    "demo": "Run the whole chain on embedded images: a first look, offline, in a minute.",
    "extract": "Compute features of images with your model, and save its head.",
    "neighbors": "Find the base classes nearest to each few-split class.",
    "train": "Train AlphaNet: corrected rows for the few-split classes.",
    "patch": "Write the corrected rows into a copy of the model file.",
    "evaluate": "Compare base and corrected accuracy; fail a build on a limit.",
    "compare": "Compare AlphaNet with the simpler methods on the same features.",
    "report": "Write a page with the verdict, the trade-off, every class and all figures.",
    "features": "Take features from other tools' files, or write such files.",
    "import": "Take features, heads and checkpoints of other projects.",
    "run": "Run a chain of stages from one file, a recipe.",
    "make-lt": "Draw long-tailed lists from class folders, with open classes and checksums.",
    "train-oltr": "Train a base model on long-tailed images: OLTR or one of its competitors.",
    "inspect": "Show which tensors of a model file could be the head.",
}


def load_command(command: str) -> typer.Typer:
    """Load the module of a command, one of `COMMANDS`, and give its app."""
    name = command.replace("-", "_")
    name += "_" if keyword.iskeyword(name) else ""  # a module cannot be called "import"
    app: typer.Typer = importlib.import_module(f"alphafix.commands.{name}.command").app
    return app


class Commands(TyperGroup):
    """Loads a command's module when the command is used, so that --help is instant."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        return typer.main.get_command(load_command(cmd_name))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit codes 0 done, 1 failed, 2 usage, 3 a gate was not met."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("error: interrupted; nothing was left half-written", err=True)
            raise typer.Exit(1) from None
        except AlphafixError as error:
            if os.environ.get("ALPHAFIX_DEBUG"):
                raise
            typer.echo(f"error: {error.text(on_command_line)}", err=True)
            raise typer.Exit(3 if isinstance(error, GateError) else 1) from None


app = typer.Typer(
    name="alphafix",
    cls=Commands,
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
    if debug:
        os.environ["ALPHAFIX_DEBUG"] = "1"


def main() -> None:
    """Run the command line."""
    app()
