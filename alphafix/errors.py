"""What can go wrong, as one small tree. Only the command line turns it into exit codes."""

from __future__ import annotations


class AlphafixError(Exception):
    """A problem that the user can act on.

    Args:
        what: What is wrong, in one sentence.
        got: What was found.
        expected: What was needed instead.
        todo: What the user can do next.
    """

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        todo: str | None = None,
    ) -> None:
        parts = [what]
        parts += [f"  got:      {got}"] if got is not None else []
        parts += [f"  expected: {expected}"] if expected is not None else []
        parts += [f"  to do:    {todo}"] if todo is not None else []
        super().__init__("\n".join(parts))


class InputError(AlphafixError):
    """Data, a file or an option that cannot be used as it is."""


class FileFormatError(InputError):
    """A file that is damaged or not of the format that it should have."""


class MissingStageError(AlphafixError):
    """A stage needs what an earlier command has not made yet."""


class StaleInputError(AlphafixError):
    """A stage's input was made from something that has changed since."""


class TargetExistsError(AlphafixError):
    """The output is there already and may not be replaced without being told."""


class MissingPackageError(AlphafixError):
    """An optional package is needed that is not installed."""


class GateError(AlphafixError):
    """A result is fine but does not meet a limit that the user set (exit code 3)."""
