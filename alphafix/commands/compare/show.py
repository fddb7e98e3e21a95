"""What a person sees of a comparison."""

from __future__ import annotations

from dataclasses import replace

from alphafix.commands.command import Shown
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.compare.work import CompareResult
from alphafix.report.tables import frontier_table, legend, table_of
from alphafix.run.directory import Run
from alphafix.values.display import Part


def show(found: CompareResult, options: CompareOptions) -> Shown:
    """The methods that nobody would do without, or all of them, and the verdict."""
    comparison = found.comparison
    table = frontier_table(comparison)
    if options.all:
        table = replace(table_of(comparison), notes=legend(comparison))
    parts: list[Part] = [comparison.classes.describe(), table, *comparison.verdict]
    return Shown(parts, see=Run(options.run).path("compare.png"))
