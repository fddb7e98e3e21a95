"""What a command may write: nothing that it reads, or among it, whoever may be overwritten."""

from __future__ import annotations

from pathlib import Path

from alphafix.commands.options import CommandOptions, StageOptions
from alphafix.errors import InputError, option
from alphafix.images.names import usual_split
from alphafix.reading.boundary import real
from alphafix.run.directory import Run


def require_apart(options: CommandOptions) -> None:
    """Check that no output is an input of the command, or one of its run directory's results.

    Raises:
        InputError: If one is, or lies among the images of a split; the option is named.
    """
    for name in ("run", *options.outputs()):
        _require_outside(options, name, getattr(options, name, None))
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


def _require_outside(options: CommandOptions, name: str, target: Path | None) -> None:
    """Check that what is written does not become a class of the images that are read."""
    data = getattr(options, "data", None)
    if data is None or target is None or not Path(data).is_dir():
        return
    own, place = real(Path(data)), real(target)
    parts = place.relative_to(own).parts if place.is_relative_to(own) else ()
    if parts and usual_split(parts[0]) and (own / parts[0]).is_dir():
        raise InputError(
            f"{option(name, str(target))} lies among the images of {parts[0]}",
            got=f"a path in {Path(data) / parts[0]}, whose folders are classes",
            expected="a path outside of the images",
            todo=f"give another one with {option(name)}",
        )
