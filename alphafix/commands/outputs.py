"""What a command may write: nothing that it reads, whoever may be overwritten."""

from __future__ import annotations

from alphafix.commands.options import CommandOptions, StageOptions
from alphafix.errors import InputError, option
from alphafix.reading.boundary import real
from alphafix.run.directory import Run


def require_apart(options: CommandOptions) -> None:
    """Check that no output is an input of the command, or one of its run directory's results.

    Raises:
        InputError: If one is; the option is named.
    """
    run = Run(options.run) if isinstance(options, StageOptions) else None
    inputs = {real(path) for path in options.inputs() if path.is_file()}
    for name in options.outputs():
        target = getattr(options, name)
        if target is None:
            continue
        own = run is not None and run.holds(target)
        if own or real(target) in inputs:
            raise InputError(
                f"{option(name, str(target))} would write over what is read",
                got=f"a path of {'the results of the run' if own else 'an input'}",
                expected="a path of its own for everything that is written",
                todo="give another path",
            )
