"""`alphafix run`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.run.options import RecipeOptions

COMMAND = Command(
    name="run",
    options=RecipeOptions,
    help="""Run the stages of a recipe; those that are up to date are left out.

A recipe is a YAML file: `stages:` with one stage an item, each with its options by their
names on the command line. Relative paths start from the recipe's folder.
""",
    example="alphafix run recipe.yaml --set train.rho=0.25 --dry-run",
    folder=__name__,
)
