"""A command that was typed: its work is done, its result shown."""

from __future__ import annotations

import os

from alphafix.commands import console
from alphafix.commands.bars import Bars
from alphafix.commands.command import Command, Result, Watch
from alphafix.commands.following import next_command
from alphafix.commands.options import CommandOptions
from alphafix.commands.repeating import completed
from alphafix.errors import AlphafixError, on_command_line
from alphafix.interrupts import begin_work
from alphafix.progress import silent


def run_command(
    command: Command, options: CommandOptions, *, as_json: bool, spellings: console.Spellings
) -> None:
    """Do a command and show its result.

    Args:
        command: The command.
        options: Its options.
        as_json: Whether the result is shown as JSON.
        spellings: How options are spelt in what is told meanwhile.

    Raises:
        AlphafixError: What the work raises, or the failure of its result, after it was shown.
    """
    # Under torchrun one process speaks for all.
    first = os.environ.get("RANK", "0") == "0"
    if first:
        console.speak(spellings)
        console.show_log(command.log)
    command.load()
    begin_work()
    try:
        found = command.work(options, Watch(Bars(), console.tell) if first else Watch(silent))
    except AlphafixError as error:
        error.complete(completed(options))
        raise
    if not first:
        return
    shown = command.show(found, options)
    if as_json:
        console.print_json(found.to_dict())
    else:
        console.tell(*shown.told)
        if shown.result:
            console.print_result(shown.result)
        if shown.see is not None:
            console.note(f"look at: {shown.see}")
        if shown.failure is None:
            _tell_next(command, found, options)
    if shown.failure is not None:
        raise shown.failure


def _tell_next(command: Command, found: Result, options: CommandOptions) -> None:
    """Say what to type next, or what it lacks."""
    try:
        line = next_command(command, found, options)
    except AlphafixError as lacking:
        lacking.complete(completed(options))
        console.note(f"before the next command: {lacking.text(on_command_line)}")
        if getattr(options, "limit", None) is not None:
            console.note("--limit has left images out: extract without it, with --overwrite")
        return
    if line is not None:
        console.note(f"next: {line}")
