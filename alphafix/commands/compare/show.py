"""What a person sees of a comparison."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.compare.work import CompareResult
from alphafix.report.text import text


def show(found: CompareResult, options: CompareOptions) -> Shown:
    """The table of all methods and the verdict."""
    return Shown(text(found.comparison))
