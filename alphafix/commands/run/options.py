"""Options of `alphafix run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from alphafix.commands.options import CommandOptions, Flag


class RecipeOptions(CommandOptions):
    """Options of `alphafix run`."""

    file: Annotated[
        Path,
        Flag(argument=True, metavar="RECIPE"),
        Field(description="The recipe: a YAML file with the stages and their options."),
    ]
    settings: Annotated[
        tuple[str, ...],
        Flag(("--set",), metavar="STAGE.OPTION=VALUE"),
        Field(description="Change an option of the recipe, like train.rho=0.5 (repeat the flag)."),
    ] = ()
    run_directory: Annotated[
        Path | None,
        Flag(("--run",), metavar="DIR"),
        Field(description="Run directory instead of the recipe's."),
    ] = None
    root: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(
            description="Folder that the recipe's relative paths start from  [that of the recipe]."
        ),
    ] = None
    dry_run: Annotated[
        bool, Field(description="Print what would be done, and with which options; do nothing.")
    ] = False
    expected: Annotated[
        bool,
        Field(description="Afterwards, print what was measured against what a paper reports."),
    ] = False
    overwrite: Annotated[
        bool,
        Field(description="Make anew what is there from other options or inputs."),
    ] = False
