"""A step of a recipe, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.commands.command import Command
from alphafix.commands.options import CommandOptions
from alphafix.recipes.recipe import Step
from alphafix.run.artifact import State


@dataclass(frozen=True)
class Task:
    """A step of a recipe, checked.

    Attributes:
        label: Its name in the recipe.
        step: As it is written.
        command: What it is.
        options: Its options, resolved.
        run: Its run directory.
        state: Whether it is done.
        doubt: Why that could not be told yet, or "".
    """

    label: str
    step: Step
    command: Command
    options: CommandOptions
    run: Path
    state: State = State.MISSING
    doubt: str = ""

    @property
    def overwrite(self) -> bool:
        """Whether the recipe itself lets it replace its result."""
        return bool(getattr(self.options, "overwrite", False))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "stage": self.label,
            "state": self.state.value,
            **({"doubt": self.doubt} if self.doubt else {}),
            "options": self.options.model_dump(mode="json", exclude_defaults=True),
        }
