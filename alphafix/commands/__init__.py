"""The commands: one folder each, and what derives the command line and recipes from them.

A folder ``commands/X`` holds ``options.py`` (one frozen model: flags, keywords and recipe
entries), ``work.py`` (whether the result is there; load values, call the library, save) and
``show.py`` (what a person sees). Its ``COMMAND`` is what everything else is derived from.
"""

from __future__ import annotations

import importlib
import keyword
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphafix.commands.command import Command

# The line of each command in --help, here so that listing them loads nothing.
LINES = {
    "demo": "Run the whole chain on embedded images: a first look, offline, in a minute.",
    "fix": "Correct a model's rare classes: every stage in one line.",
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


def load_commands(name: str) -> tuple[Command, ...]:
    """Load what ``alphafix NAME`` is: one command, or those of a group ("features").

    Raises:
        KeyError: If there is no command of that name.
    """
    if name not in LINES:
        raise KeyError(name)
    folder = name.replace("-", "_")
    folder += "_" if keyword.iskeyword(folder) else ""  # a module cannot be called "import"
    module = importlib.import_module(f"alphafix.commands.{folder}")
    commands: tuple[Command, ...] = getattr(module, "COMMANDS", None) or (module.COMMAND,)
    return commands


def load_command(name: str) -> Command:
    """Load one command, named as on the command line: "train", "features import".

    Raises:
        KeyError: If there is none of that name.
    """
    for command in load_commands(name.partition(" ")[0]):
        if command.name == name:
            return command
    raise KeyError(name)
