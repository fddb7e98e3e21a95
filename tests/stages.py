"""The commands as functions of their options, for tests that need what they make."""

from __future__ import annotations

from pathlib import Path

from alphafix.checkpoints.head.inspection import Inspection
from alphafix.commands.command import Watch
from alphafix.commands.compare import work as _compare
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate import work as _evaluate
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.extract import work as _extract
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.work import ExtractResult
from alphafix.commands.inspect import work as _inspect
from alphafix.commands.inspect.options import InspectOptions
from alphafix.commands.neighbors import work as _neighbors
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.patch import work as _patch
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.patch.work import PatchResult
from alphafix.commands.report import work as _report
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.train import work as _train
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train_oltr import work as _train_oltr
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.commands.train_oltr.work import TrainOltrResult
from alphafix.metrics.comparison import Comparison
from alphafix.metrics.evaluation import Evaluation
from alphafix.progress import Progress, silent
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.neighbors import Neighbours


def extract(options: ExtractOptions, *, progress: Progress = silent) -> ExtractResult:
    return _extract.extract_all(options, Watch(progress))


def find_neighbors(
    options: NeighborsOptions, *, progress: Progress = silent
) -> tuple[ClassTable, Neighbours]:
    found = _neighbors.work(options, Watch(progress))
    return found.classes, found.neighbours


def train(options: TrainOptions, *, progress: Progress = silent) -> Correction:
    correction = _train.work(options, Watch(progress)).correction
    assert correction is not None
    return correction


def patch(options: PatchOptions, *, progress: Progress = silent) -> PatchResult:
    return _patch.work(options, Watch(progress))


def evaluate(options: EvaluateOptions, *, progress: Progress = silent) -> Evaluation:
    return _evaluate.work(options, Watch(progress)).evaluation


def compare(options: CompareOptions, *, progress: Progress = silent) -> Comparison:
    return _compare.work(options, Watch(progress)).comparison


def report(options: ReportOptions, *, progress: Progress = silent) -> Path:
    return _report.work(options, Watch(progress)).page


def inspect(options: InspectOptions) -> Inspection:
    return _inspect.work(options, Watch())


def train_oltr(options: TrainOltrOptions, *, progress: Progress = silent) -> TrainOltrResult:
    return _train_oltr.work(options, Watch(progress))
