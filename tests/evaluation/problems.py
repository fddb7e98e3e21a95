"""Runs with a correction, for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Provenance, Run
from alphafix.values.correction import Correction
from tests.common import Problem, make_problem, write_run


def few_bias_correction(problem: Problem, shift: float = 2.0) -> Correction:
    """One number added to all few-split biases: a correction that certainly does something."""
    few = problem.classes.few
    biases = problem.head.bias_or_zeros[few] + np.float32(shift)
    return Correction(few, problem.head.weight[few], biases, method="few-bias")


def corrected_run(folder: Path, problem: Problem | None = None, *, shift: float = 2.0) -> Run:
    """A run directory with features, head and a few-bias correction."""
    problem = problem or make_problem(num_classes=16, spread=1.5)
    run = write_run(folder, problem)
    made = few_bias_correction(problem, shift)
    inputs = run.hashes(CLASSES, HEAD, run.manifest("train"))
    provenance = Provenance("train", {"method": "few-bias"}, inputs).to_dict()
    Correction(made.classes, made.rows, made.biases, method="few-bias", provenance=provenance).save(
        run.path(CORRECTION)
    )
    return run
