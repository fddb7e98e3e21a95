"""The help of the commands, kept in a file, because making it of the options takes longer.

``help.json`` has, for each command, what follows its name in the usage line, and the sections of
its options, each a list of flags and what they mean. `examples/commands/write.py` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from alphafix.commands import COMMANDS
from alphafix.commands.command import Command

FILE = Path(__file__).with_name("help.json")

FLAGS = ["-h", "--help"]


def asked_for(words: list[str]) -> Command | None:
    """The command whose help, and nothing else, some words after ``alphafix`` ask for."""
    return COMMANDS.get(" ".join(words[:-1])) if words and words[-1] in FLAGS else None


class KeptHelp(TyperCommand):
    """A command that can do nothing but show its help."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            command.name,
            context_settings={"help_option_names": FLAGS},
            help=command.help,
            epilog=f"Example: {command.example}",
            rich_markup_mode=None,
        )
        self._kept = json.loads(FILE.read_text(encoding="utf-8"))[command.name]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the name in the usage line."""
        return list(self._kept["usage"])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the options in their sections."""
        for title, rows in self._kept["sections"].items():
            with formatter.section(title):
                formatter.write_dl([tuple(row) for row in rows])
