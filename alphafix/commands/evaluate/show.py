"""What a person sees of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from alphafix.commands.command import Shown
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import EvaluateResult
from alphafix.commands.pages import page_of, page_shows
from alphafix.commands.repeating import in_words
from alphafix.errors import GateError, call, option
from alphafix.metrics.gates import GateResult, failed
from alphafix.report.tables import heading, interval_note, other_figures, table_of
from alphafix.run.directory import Run
from alphafix.values.display import Part, Table


def show(found: EvaluateResult, options: EvaluateOptions) -> Shown:
    """Top-1 accuracy and the gates; one that is not met fails the command."""
    failure = None
    if failing := failed(found.outcomes):
        lines = [f"{_set(outcome)}: {outcome.line}" for outcome in failing]
        failure = GateError("a gate is not met", *lines)
    evaluation = found.evaluation
    parts: list[Part] = [*heading(evaluation), replace(table_of(evaluation), title="", notes=())]
    if found.outcomes:
        parts.append(Table("Gates", [], list(map(_gate, found.outcomes)), left=(1, 2)))
    others = other_figures(evaluation, asked=not options.all)
    parts += [others] if others.rows else []
    parts.append(interval_note(evaluation))
    if not options.all:
        more = "top-5, mean class accuracy, macro-F1, calibration, lowest class too"
        parts.append(f"{option('all', True)}: {more}")
    page, told = _page(options)
    return Shown(parts, told, see=page, failure=failure)


def _page(options: EvaluateOptions) -> tuple[Path | None, list[Part]]:
    """The page, if it shows what was measured; otherwise what makes it, if there is another."""
    run = Run(options.run)
    if not (page := page_of(run)).is_file():
        return None, []
    if page_shows(run, options.on):
        return page, []
    again = in_words(call("report", on=options.on, overwrite=True), options)
    return None, [f"{page} was made from something else than is there now; {again} makes it anew"]


def _gate(outcome: GateResult) -> list[object]:
    word = "passed" if outcome.met else "failed"
    return [word, _set(outcome), outcome.line]


def _set(outcome: GateResult) -> str:
    """A limit, as it was set."""
    return option(outcome.gate, f"{outcome.limit:g}")
