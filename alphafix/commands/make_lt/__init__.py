"""`alphafix make-lt`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.make_lt.options import MakeLtOptions

COMMAND = Command(
    name="make-lt",
    options=MakeLtOptions,
    help="""Draw long-tailed training lists, balanced val and test lists, and open classes.

Paths in the lists are relative to --data: `alphafix extract --data LISTS --root DATA`.
""",
    example="alphafix make-lt --data photos --output photos-lt --open-classes 10",
    folder=__name__,
)
