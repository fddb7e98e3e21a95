"""Options of `alphafix run`."""

from __future__ import annotations

from pathlib import Path

from alphafix.commands.options import CommandOptions, flag


class RecipeOptions(CommandOptions):
    """Options of `alphafix run`."""

    file: Path = flag(
        help="The recipe: a YAML file with the stages and their options.",
        argument=True,
        metavar="RECIPE",
    )
    settings: tuple[str, ...] = flag(
        (),
        help="Change an option of the recipe, like train.rho=0.5 (repeat the flag).",
        flags=("--set",),
        metavar="STAGE.OPTION=VALUE",
    )
    run_directory: Path | None = flag(
        None, help="Run directory instead of the recipe's.", flags=("--run",), metavar="DIR"
    )
    root: Path | None = flag(
        None,
        help="Folder that the recipe's relative paths start from  [that of the recipe].",
        metavar="DIR",
    )
    dry_run: bool = flag(
        False, help="Print what would be done, and with which options; do nothing."
    )
    expected: bool = flag(
        False, help="Afterwards, print what was measured against what a paper reports."
    )
    overwrite: bool = flag(False, help="Make anew what is there from other options or inputs.")
