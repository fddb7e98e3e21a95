"""What a person sees of an evaluation."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import EvaluateResult
from alphafix.errors import GateError
from alphafix.metrics.gates import failed
from alphafix.report.text import text


def show(found: EvaluateResult, options: EvaluateOptions) -> Shown:
    """The tables; a gate that is not met fails the command."""
    failure = None
    if failing := failed(found.outcomes):
        lines = [f"{outcome.flag}: {outcome.line}" for outcome in failing]
        failure = GateError("a gate is not met", *lines)
    return Shown(text(found.evaluation), failure=failure)
