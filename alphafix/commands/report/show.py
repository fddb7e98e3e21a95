"""What a person sees of a report: where it is."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.report.work import ReportResult


def show(found: ReportResult, options: ReportOptions) -> Shown:
    """The page."""
    return Shown(str(found.page))
