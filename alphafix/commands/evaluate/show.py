"""What a person sees of an evaluation."""

from __future__ import annotations

from dataclasses import replace

from alphafix.commands.command import Shown
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import EvaluateResult
from alphafix.errors import GateError
from alphafix.metrics.gates import GateResult, failed
from alphafix.report.tables import heading, interval_note, other_figures, table_of
from alphafix.run.directory import PAGE, Run
from alphafix.values.display import Part, Table


def show(found: EvaluateResult, options: EvaluateOptions) -> Shown:
    """Top-1 accuracy and the gates; one that is not met fails the command."""
    failure = None
    if failing := failed(found.outcomes):
        lines = [f"{outcome.flag}: {outcome.line}" for outcome in failing]
        failure = GateError("a gate is not met", *lines)
    evaluation = found.evaluation
    parts: list[Part] = [*heading(evaluation), replace(table_of(evaluation), title="", notes=())]
    if found.outcomes:
        parts.append(Table("Gates", [], list(map(_gate, found.outcomes)), left=(1, 2)))
    others = other_figures(evaluation, asked=not options.all)
    parts += [others] if others.rows else []
    parts.append(interval_note(evaluation))
    if not options.all:
        parts.append("--all: top-5, mean class accuracy, macro-F1, calibration, lowest class too")
    page = Run(options.run).path(PAGE) / "index.html"
    return Shown(parts, see=page if page.is_file() else None, failure=failure)


def _gate(outcome: GateResult) -> list[object]:
    word = "passed" if outcome.met else "failed"
    return [word, f"{outcome.flag} {outcome.limit:g}", outcome.line]
