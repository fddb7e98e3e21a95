"""`alphafix fix`: the chain of stages that most users want, as a recipe made from three words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.commands.command import Watch
from alphafix.commands.fix.options import FixOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.run.ready import require_ready
from alphafix.commands.run.task import Task
from alphafix.commands.run.work import carry_out, checked, plan, refuse_to_replace
from alphafix.documents import Node, Place
from alphafix.errors import GateError, option
from alphafix.metrics.evaluation import Evaluation
from alphafix.models.loading import own_file
from alphafix.recipes.recipe import Recipe, Step, with_settings
from alphafix.run.artifact import State
from alphafix.run.directory import CLASSES, CORRECTION, REPORT, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction

# Where a setting's value is from, in an error about it.
_HERE = Place("alphafix fix")


@dataclass(frozen=True)
class FixResult:
    """What became of a model.

    Attributes:
        patched: The patched copy.
        page: The page that explains it.
        evaluation: Base against corrected, on test images (on validation where there are none).
        rows: How many rows of the last layer it changes: those of the rare classes, or all.
        tasks: The stages, as they were found before they were done.
    """

    patched: Path
    page: Path
    evaluation: Evaluation
    rows: int
    tasks: tuple[Task, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Each stage says itself what it wrote."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "patched": str(self.patched),
            "page": str(self.page),
            "rows": self.rows,
            "evaluation": self.evaluation.to_dict(),
            "stages": [task.to_dict() for task in self.tasks],
        }


def work(options: FixOptions, watch: Watch) -> FixResult:
    """Extract, find neighbours, train, hold the limit, patch, and write the page.

    Raises:
        InputError: If a setting names an unknown stage or option, or a value is wrong.
        TargetExistsError: If a stage would replace a result, or another file, and may not.
        GateError: If no correction is better than the base model within the limit, or the one
            that was chosen loses more than it may; nothing is patched then.
        AlphafixError: Whatever else a stage raises.
    """
    run = Run(options.run)
    tasks = _planned(options)
    refuse_to_replace(tasks, overwrite=options.overwrite)
    require_ready(tasks, overwrite=options.overwrite)
    results = carry_out(tasks[:1], options.overwrite, watch, chain=tasks)
    if not run.has(run.manifest("test")):
        watch.say("there are no test images: the limit is held on those that it was chosen with")
    if (k := _fewer_neighbours(options, run)) is not None:
        watch.say(
            f"{k + 1} classes are not rare: each rare one has {k} of them as neighbours, as many "
            "as can be (the setting neighbors.k is for fewer)"
        )
    tasks = _fitting(options, run, tasks)
    trained = 1 + [task.label for task in tasks].index("train")
    results |= carry_out(tasks[1:trained], options.overwrite, watch, chain=tasks)
    correction = Correction.load(run.require(CORRECTION))
    _refuse_base(correction)
    results |= carry_out(tasks[trained:], options.overwrite, watch, chain=tasks)
    patched, page = (_result(task, results) for task in tasks if task.label in ("patch", "report"))
    return FixResult(
        patched=Path(patched["target"]),
        page=Path(page["page"]),
        evaluation=Evaluation.load(run.path(REPORT)),
        rows=len(correction.classes),
        tasks=tasks,
    )


def _planned(options: FixOptions) -> tuple[Task, ...]:
    """The stages as they are found; where images were read already, on what these can measure."""
    tasks = plan(checked(_recipe(options)))
    return _fitting(options, Run(options.run), tasks) if tasks[0].state is State.CURRENT else tasks


def _fitting(options: FixOptions, run: Run, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """The stages as they suit the images that were read, if that is another way."""
    on = "test" if run.has(run.manifest("test")) else "val"
    recipe = _recipe(options, on, _fewer_neighbours(options, run))
    fit = checked(recipe)
    same = all(a.options == b.options for a, b in zip(fit, tasks, strict=True))
    return tasks if same else plan(fit)


def _fewer_neighbours(options: FixOptions, run: Run) -> int | None:
    """K, if there are too few classes for the usual one and none was asked for."""
    task = next(task for task in checked(_recipe(options)) if task.label == "neighbors")
    if "k" in task.step.options or not run.has(CLASSES):
        return None
    asked = NeighborsOptions.model_validate(task.options.model_dump())
    table = ClassTable.load(run.path(CLASSES))
    most = len(table.with_thresholds(asked.few_below, asked.many_above).base) - 1
    return most if 1 <= most < asked.k else None


def _refuse_base(correction: Correction) -> None:
    """Refuse to ship the base model as if it were corrected.

    Raises:
        GateError: If training kept the base model.
    """
    if correction.is_base:
        raise GateError(
            "no correction is good enough: nothing is patched, your model stays as it is",
            got=correction.kept_because,
            expected="a correction that gains for the rare classes within the limit",
            todo=f"allow more with {option('max_overall_drop')}, or give more validation images",
        )


def _recipe(options: FixOptions, on: str = "test", k: int | None = None) -> Recipe:
    """The stages, with all that the options say of them."""
    drop = options.max_overall_drop
    weights = {"weights": options.file} if own_file(options.backbone) is None else {}
    stages: dict[str, dict[str, object]] = {
        "extract": {"backbone": options.backbone, "data": options.data, **weights},
        "neighbors": {} if k is None else {"k": k},
        "train": {"method": "auto", "max_overall_drop": drop},
        "evaluate": {"on": on, "max_overall_drop": drop},
        "patch": {"file": options.file, "output": options.output},
        "report": {"on": on},
    }
    steps = tuple(
        Step(stage, {name: Node(value, _HERE) for name, value in values.items()}, _HERE)
        for stage, values in stages.items()
    )
    recipe = Recipe(options.file, run=options.run, steps=steps)
    return with_settings(recipe, options.settings)


def _result(task: Task, results: dict[str, Any]) -> dict[str, Any]:
    """What a stage gave; one that was up to date says where its result is."""
    found: dict[str, Any] = (
        results.get(task.label) or task.command.work(task.options, Watch()).to_dict()
    )
    return found


def state(options: FixOptions) -> State:
    """Whether every stage is up to date."""
    states = {task.state for task in _planned(options)}
    return State.CURRENT if states == {State.CURRENT} else State.MISSING
