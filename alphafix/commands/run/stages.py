"""What a recipe can name: each stage's options, what it does, and whether it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.features.options import ImportOptions
from alphafix.commands.import_.options import ForeignOptions
from alphafix.commands.make_lt.options import MakeLtOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.options import CommandOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.errors import GateError, option
from alphafix.features.store import MANIFEST
from alphafix.progress import Progress
from alphafix.run.artifact import State
from alphafix.run.directory import CLASSES, COMPARISON, CORRECTION, HEAD, NEIGHBORS, REPORT, Run

Result = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What a stage did.

    Attributes:
        result: Its result as JSON data.
        files: Files that it wrote, for its stamp.
    """

    result: Result
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A stage that a recipe can name.

    Attributes:
        options: Its options model.
        work: Does it.
        state: Whether its result is there as the options say; None where the result does not
            tell (a stamp does, see `alphafix.commands.run.stamps`).
        result: File in the run directory that is there once it is done, if there is one.
        inputs: Results of the run that it reads, or `FEATURES`, for a stamp.
        rechecks: Whether it is called even if its stamp says that it is done, since it reads
            more than named files (folders of images), and itself leaves what is up to date.
        free: Whether it replaces an earlier result of its own without being told.
        feeds: Whether later stages read what it leaves.
    """

    options: type[CommandOptions]
    work: Callable[[Any, Progress], Done]
    state: Callable[[Any], State] | None = None
    result: str | None = None
    inputs: tuple[str, ...] = ()
    rechecks: bool = False
    free: bool = False
    feeds: bool = True


def _extract(options: ExtractOptions, progress: Progress) -> Done:
    from alphafix.commands.extract.work import extract

    return Done(extract(options, progress=progress).to_dict())


def _extract_state(options: ExtractOptions) -> State:
    from alphafix.commands.extract.work import state

    return state(options)


def _import_features(options: ImportOptions, progress: Progress) -> Done:
    from alphafix.commands.features.work import import_features

    store = import_features(options, progress=progress)
    result = {"split": options.split, "samples": len(store), "width": store.width}
    return Done(result, (store.folder / MANIFEST,))


def _import(options: ForeignOptions, progress: Progress) -> Done:
    from alphafix.commands.import_.work import import_foreign

    found = import_foreign(options, progress=progress)
    return Done(found.to_dict(), found.files)


def _make_lt(options: MakeLtOptions, progress: Progress) -> Done:
    from alphafix.commands.make_lt.work import make_lists, verify_lists

    if options.verify is not None:
        return Done({"verified": list(verify_lists(options))})
    made = make_lists(options)
    result = {"output": str(made.folder), "classes": made.classes.describe()}
    return Done(result, tuple(sorted(made.folder.glob("*.txt"))))


def _train_oltr(options: TrainOltrOptions, progress: Progress) -> Done:
    from alphafix.commands.train_oltr.model import EVALUATION
    from alphafix.commands.train_oltr.work import train_oltr

    found = train_oltr(options, progress=progress)
    return Done(found.to_dict(), (found.folder / EVALUATION,))


def _neighbors(options: NeighborsOptions, progress: Progress) -> Done:
    from alphafix.commands.neighbors.work import find_neighbors

    classes, found = find_neighbors(options, progress=progress)
    return Done({"classes": classes.describe(), "k": found.k, "metric": found.metric})


def _neighbors_state(options: NeighborsOptions) -> State:
    from alphafix.commands.neighbors.work import state

    return state(options)


def _train(options: TrainOptions, progress: Progress) -> Done:
    from alphafix.commands.train.work import train

    correction = train(options, progress=progress)
    return Done({"method": correction.method, "chosen": correction.chosen})


def _train_state(options: TrainOptions) -> State:
    from alphafix.commands.train.work import state

    return state(options)


def _patch(options: PatchOptions, progress: Progress) -> Done:
    from alphafix.commands.patch.work import patch

    found = patch(options, progress=progress)
    return Done(found.to_dict(), () if found.action == "dry run" else found.files)


def _evaluate(options: EvaluateOptions, progress: Progress) -> Done:
    """Evaluate and hold the gates, as `alphafix evaluate` does."""
    from alphafix.commands.evaluate.work import evaluate, gates_of, write_outputs
    from alphafix.metrics.gates import check_gates, failed

    found = evaluate(options, progress=progress)
    outcomes = check_gates(found, gates_of(options))
    write_outputs(found, outcomes, options)
    if failing := failed(outcomes):
        lines = [f"{option(outcome.gate)}: {outcome.line}" for outcome in failing]
        raise GateError("\n".join(["a gate is not met", *lines]))
    result = {
        "on": found.on,
        "splits": found.to_dict()["splits"],
        "gates": [outcome.to_dict() for outcome in outcomes],
    }
    written = (Run(options.run).path(REPORT), options.junit, options.markdown)
    return Done(result, tuple(path for path in written if path is not None))


def _compare(options: CompareOptions, progress: Progress) -> Done:
    from alphafix.commands.compare.work import compare

    found = compare(options, progress=progress)
    result = {"on": found.on, "methods": len(found.rows), "verdict": list(found.verdict)}
    return Done(result, (Run(options.run).path(COMPARISON),))


def _report(options: ReportOptions, progress: Progress) -> Done:
    from alphafix.commands.report.work import report

    page = report(options, progress=progress)
    return Done({"page": str(page)}, (page,))


FEATURES = "features"
"""Among a stage's inputs: the features of all splits."""

_ALL = (FEATURES, CLASSES, HEAD, NEIGHBORS, CORRECTION)

STAGES: Mapping[str, Stage] = {
    "make-lt": Stage(MakeLtOptions, _make_lt),
    "train-oltr": Stage(TrainOltrOptions, _train_oltr, rechecks=True),
    "import": Stage(ForeignOptions, _import, rechecks=True),
    "extract": Stage(ExtractOptions, _extract, _extract_state, HEAD),
    "features import": Stage(ImportOptions, _import_features, inputs=(HEAD,)),
    "neighbors": Stage(NeighborsOptions, _neighbors, _neighbors_state, NEIGHBORS),
    "train": Stage(TrainOptions, _train, _train_state, CORRECTION),
    "patch": Stage(PatchOptions, _patch, inputs=(FEATURES, HEAD, CORRECTION), feeds=False),
    "evaluate": Stage(EvaluateOptions, _evaluate, inputs=_ALL, free=True, feeds=False),
    "compare": Stage(CompareOptions, _compare, inputs=_ALL[:4], free=True, feeds=False),
    "report": Stage(ReportOptions, _report, inputs=(*_ALL, COMPARISON), free=True, feeds=False),
}
