"""What the options of all stages share.

The command line makes its flags from the fields (`alphafix.commands.flags`): a field's description
is its help text, and `Flag` gives it short names or makes it a positional argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


@dataclass(frozen=True)
class Flag:
    """How a field appears on the command line.

    Attributes:
        names: Flags to use instead of ``--field-name``.
        argument: Whether it is a positional argument.
        metavar: What stands for the value in the help text.
    """

    names: tuple[str, ...] = ()
    argument: bool = False
    metavar: str | None = None


def _split(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in (str(item).split(","))]
    return [value] if isinstance(value, (int, float)) else value


Several = BeforeValidator(_split)
"""For a tuple of numbers: also takes one number, and on the command line "1,2,3"."""


class CommandOptions(BaseModel):
    """Options of any command."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StageOptions(CommandOptions):
    """What every stage takes that works in a run directory."""

    run: Annotated[
        Path,
        Flag(metavar="DIR"),
        Field(description="Run directory, where the stages leave their results."),
    ] = Path("alphafix-run")
    overwrite: Annotated[bool, Field(description="Replace results that are there.")] = False

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", exclude={"run", "overwrite"})
