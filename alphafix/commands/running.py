"""A command that was typed: its work is done, its result shown."""

from __future__ import annotations

import os

from alphafix.commands import console
from alphafix.commands.bars import Bars
from alphafix.commands.command import Command, Watch
from alphafix.commands.following import next_command
from alphafix.commands.options import CommandOptions
from alphafix.progress import silent


def run_command(command: Command, options: CommandOptions, *, as_json: bool) -> None:
    """Do a command and show its result.

    Raises:
        AlphafixError: What the work raises, or the failure of its result, after it was shown.
    """
    # Under torchrun one process speaks for all.
    first = os.environ.get("RANK", "0") == "0"
    if first:
        console.show_log(command.log)
    found = command.work(options, Watch(Bars(), console.tell) if first else Watch(silent))
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
        if shown.failure is None and (line := next_command(command, found, options)) is not None:
            console.note(f"next: {line}")
    if shown.failure is not None:
        raise shown.failure
