"""What a recipe can name: each stage's options, what it does, and whether it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alphafix.errors import GateError
from alphafix.features.store import MANIFEST
from alphafix.options.base import CommandOptions
from alphafix.options.compare import CompareOptions
from alphafix.options.evaluate import EvaluateOptions
from alphafix.options.extract import ExtractOptions
from alphafix.options.features import ImportOptions
from alphafix.options.import_ import ForeignOptions
from alphafix.options.make_lt import MakeLtOptions
from alphafix.options.neighbors import NeighborsOptions
from alphafix.options.patch import PatchOptions
from alphafix.options.report import ReportOptions
from alphafix.options.train import TrainOptions
from alphafix.options.train_oltr import TrainOltrOptions
from alphafix.progress import Progress
from alphafix.run import (
    CLASSES,
    COMPARISON,
    CORRECTION,
    HEAD,
    NEIGHBORS,
    REPORT,
    Run,
    State,
)

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
            tell (a stamp does, see `alphafix.stages.stamps`).
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
    from alphafix.stages.extract import extract

    return Done(extract(options, progress=progress).to_dict())


def _extract_state(options: ExtractOptions) -> State:
    from alphafix.stages.extract import state

    return state(options)


def _import_features(options: ImportOptions, progress: Progress) -> Done:
    from alphafix.stages.features import import_features

    store = import_features(options, progress=progress)
    result = {"split": options.split, "samples": len(store), "width": store.width}
    return Done(result, (store.folder / MANIFEST,))


def _import(options: ForeignOptions, progress: Progress) -> Done:
    from alphafix.stages.import_ import import_foreign

    found = import_foreign(options, progress=progress)
    return Done(found.to_dict(), found.files)


def _make_lt(options: MakeLtOptions, progress: Progress) -> Done:
    from alphafix.stages.make_lt import make_lists, verify_lists

    if options.verify is not None:
        return Done({"verified": list(verify_lists(options))})
    made = make_lists(options)
    result = {"output": str(made.folder), "classes": made.classes.describe()}
    return Done(result, tuple(sorted(made.folder.glob("*.txt"))))


def _train_oltr(options: TrainOltrOptions, progress: Progress) -> Done:
    from alphafix.stages.train_oltr import train_oltr
    from alphafix.stages.train_oltr_model import EVALUATION

    found = train_oltr(options, progress=progress)
    return Done(found.to_dict(), (found.folder / EVALUATION,))


def _neighbors(options: NeighborsOptions, progress: Progress) -> Done:
    from alphafix.stages.neighbors import find_neighbors

    classes, found = find_neighbors(options, progress=progress)
    return Done({"classes": classes.describe(), "k": found.k, "metric": found.metric})


def _neighbors_state(options: NeighborsOptions) -> State:
    from alphafix.stages.neighbors import state

    return state(options)


def _train(options: TrainOptions, progress: Progress) -> Done:
    from alphafix.stages.train import train

    correction = train(options, progress=progress)
    return Done({"method": correction.method, "chosen": correction.chosen})


def _train_state(options: TrainOptions) -> State:
    from alphafix.stages.train import state

    return state(options)


def _patch(options: PatchOptions, progress: Progress) -> Done:
    from alphafix.stages.patch import patch

    found = patch(options, progress=progress)
    return Done(found.to_dict(), () if found.action == "dry run" else found.files)


def _evaluate(options: EvaluateOptions, progress: Progress) -> Done:
    """Evaluate and hold the gates, as `alphafix evaluate` does."""
    from alphafix.evaluation.gates import check_gates, failed
    from alphafix.stages.evaluate import evaluate, gates_of, write_outputs

    found = evaluate(options, progress=progress)
    outcomes = check_gates(found, gates_of(options))
    write_outputs(found, outcomes, options)
    if failing := failed(outcomes):
        lines = [f"{outcome.gate}: {outcome.line}" for outcome in failing]
        raise GateError("\n".join(["a gate is not met", *lines]))
    result = {
        "on": found.on,
        "splits": found.to_dict()["splits"],
        "gates": [asdict(outcome) for outcome in outcomes],
    }
    written = (Run(options.run).path(REPORT), options.junit, options.markdown)
    return Done(result, tuple(path for path in written if path is not None))


def _compare(options: CompareOptions, progress: Progress) -> Done:
    from alphafix.stages.compare import compare

    found = compare(options, progress=progress)
    result = {"on": found.on, "methods": len(found.rows), "verdict": list(found.verdict)}
    return Done(result, (Run(options.run).path(COMPARISON),))


def _report(options: ReportOptions, progress: Progress) -> Done:
    from alphafix.stages.report import report

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
