"""`alphafix run`: the stages of a recipe, those that are up to date left out."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from alphafix.commands import COMMANDS
from alphafix.commands.command import Command, Result, Watch, held
from alphafix.commands.fetching import refuse_addresses
from alphafix.commands.options import CommandOptions, Several, StageOptions
from alphafix.commands.run.options import RecipeOptions
from alphafix.commands.run.ready import doubted, require_ready
from alphafix.commands.run.task import Task
from alphafix.documents import nearest
from alphafix.errors import (
    AlphafixError,
    InputError,
    StaleInputError,
    TargetExistsError,
    at_work,
    in_recipe,
    option,
    spelt,
)
from alphafix.files import sweep_all
from alphafix.reading.boundary import real
from alphafix.recipes.expected import Beside
from alphafix.recipes.recipe import Recipe, Step, load_recipe
from alphafix.remote import as_given, is_address, named
from alphafix.run.artifact import State
from alphafix.run.directory import CORRECTION, Run
from alphafix.values.correction import Correction

# What a recipe can name; `demo`, `inspect` and `run` itself make nothing that another stage reads.
STAGES = (
    "make-lt",
    "train-oltr",
    "import",
    "extract",
    "features import",
    "features merge",
    "neighbors",
    "train",
    "patch",
    "evaluate",
    "compare",
    "report",
)


@dataclass(frozen=True)
class RecipeResult:
    """What became of a recipe.

    Attributes:
        recipe: The recipe.
        run: The run directory of its last stage.
        tasks: Its steps, as they were found before they were done.
        results: What each that was done gave, by its label.
        beside: Expected and measured figures, if they were asked for.
        kept: Why the base model is kept, by the label of the stage that trained in vain.
        figures: Files of the figure that was drawn of the measured figures.
    """

    recipe: Recipe
    run: Path
    tasks: tuple[Task, ...]
    results: dict[str, Any]
    beside: Beside | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        steps = [{**task.to_dict(), "result": self.results.get(task.label)} for task in self.tasks]
        found: dict[str, Any] = {"recipe": str(self.recipe.file), "run": as_given(self.run)}
        found |= {"stages": steps, **({"kept": dict(self.kept)} if self.kept else {})}
        found |= {"figures": [str(path) for path in self.figures]} if self.figures else {}
        return found if self.beside is None else {**found, "expected": self.beside.to_dict()}


def work(options: RecipeOptions, watch: Watch) -> RecipeResult:
    """Do what a recipe says, from its folder (or ``options.root``).

    Raises:
        InputError: If the recipe names an unknown stage or option, or a value is wrong; the
            line and the nearest valid name are in the message.
        TargetExistsError: If a stage would replace a result, or another file, and may not.
        GateError: If a limit of `evaluate` is not met; later stages are not done.
        AlphafixError: Whatever else a stage raises; what can be known before, before any is done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "a recipe runs in one process",
            got=f"{os.environ['WORLD_SIZE']} processes of torchrun",
            todo="extract under torchrun first, then run the recipe: what is there is used",
        )
    recipe = load_recipe(options.file, options.settings)
    table = None if recipe.expected is None else recipe.expected.absolute()
    if options.expected and table is None:
        raise InputError(
            f"{options.file} names no expected figures",
            expected="expected: FILE in the recipe",
            todo="leave out --expected",
        )
    if options.run_directory is not None:
        recipe = replace(recipe, run=_absolute(options.run_directory))
    elif recipe.run is None and (usual := os.environ.get("ALPHAFIX_RUN")):
        recipe = replace(recipe, run=_absolute(named(usual)))
    results: dict[str, Any] = {}
    kept: dict[str, str] = {}
    beside, figures = None, []
    with ExitStack() as entered:
        entered.enter_context(_folder(options.root or options.file.parent))
        steps = checked(recipe)
        if not options.dry_run:
            _hold(steps, watch, entered)
        tasks = plan(steps)
        if not options.dry_run:
            refuse_to_replace(tasks, overwrite=options.overwrite)
        try:
            require_ready(tasks, overwrite=options.overwrite, lacking=not options.dry_run)
            if not options.dry_run:
                results = carry_out(tasks, options.overwrite, watch)
        except AlphafixError as error:
            error.add(*_where_from(str(error), tasks))
            raise
        if options.dry_run:
            tasks = doubted(tasks)
        else:
            kept = _kept(tasks)
            if options.expected and table is not None:
                from alphafix.commands.run.expected import beside_expected, draw_expected

                beside = beside_expected(table, [task.options for task in tasks], watch.progress)
                figures = draw_expected(beside, tasks[-1].run)
    root = options.root or options.file.parent
    place, *drawn = (_from_here(root, one) for one in (tasks[-1].run, *figures))
    return RecipeResult(recipe, place, tasks, results, beside, kept, tuple(drawn))


def _from_here(root: Path, place: Path) -> Path:
    """A place of a recipe as seen from where the command was given, or as it is if it is whole."""
    whole = is_address(place) or place.is_absolute()
    return place if whole else Path(os.path.relpath(root / place))


def _absolute(folder: Path) -> Path:
    return folder if is_address(folder) else folder.absolute()


def _where_from(said: str, tasks: Sequence[Task]) -> list[str]:
    """Where a path is from that an error names and that is not there."""
    for task in tasks:
        for name, node in task.step.options.items():
            path = _missing(getattr(task.options, name), said)
            if path is None:
                continue
            found = []
            if not Path(path).is_absolute():
                found.append(
                    f"  path:     {node.place}; relative paths of a recipe start from {Path.cwd()} "
                    f"({option('root')} names another folder)"
                )
            for variable in node.variables:
                value = os.environ.get(variable)
                known = value or f"not set (export {variable}=FOLDER)"
                found.append(f"  variable: {variable}, an environment variable in it, is {known}")
            return found
    return []


def _missing(value: object, said: str) -> str | None:
    """The path of an option that ``said`` speaks of, up to a ``{split}``, if it is not there."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if not isinstance(one, Path) and not (isinstance(one, str) and "/" in one):
            continue
        text = as_given(one)
        path = re.sub("^[a-z]+:", "", text).partition("{")[0]
        if path and "://" not in text and path in said and not Path(path).exists():
            return path
    return None


def _kept(tasks: Sequence[Task]) -> dict[str, str]:
    """Why the base model is kept, by the label of the stage that trained in vain."""
    found: dict[str, str] = {}
    for task in tasks:
        run = Run(task.run)
        if task.step.stage == "train" and run.has(CORRECTION):
            why = Correction.load(run.path(CORRECTION)).kept_because
            found |= {} if why is None else {task.label: why}
    return found


def _hold(tasks: Sequence[Task], watch: Watch, entered: ExitStack) -> None:
    """Keep other commands out of all folders of a recipe until it ends: its stages are one chain.

    In one order, so that no two recipes wait for each other.
    """
    begins: dict[Path, bool] = {}
    stays: dict[Path, bool] = {}
    for task in tasks:
        if task.options.place is not None:
            place = real(task.options.place)
            begins[place] = begins.get(place, False) or task.command.begins
            stays[place] = task.options.stays
    for place in sorted(begins):
        entered.enter_context(held(place, watch, begins=begins[place], stays=stays[place]))


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Work in ``folder``: there a recipe's words mean what they would on the command line.

    Results record the words, so that the recipe and the commands of its folder, and the same
    folder elsewhere, find one another's results up to date; paths that are resolved beforehand
    would not. The working folder is that of the process, which runs nothing else.
    """
    earlier = Path.cwd()
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(f"{folder} is no folder", got=error.strerror, todo="correct --root") from (
            error
        )
    try:
        yield
    finally:
        os.chdir(earlier)


def checked(recipe: Recipe) -> tuple[Task, ...]:
    """All steps with their options, before anything is done."""
    for step in recipe.steps:
        if step.stage not in STAGES:
            raise InputError(
                f"{step.place}: there is no stage {step.stage}",
                expected=", ".join(STAGES),
                todo=nearest(step.stage, list(STAGES)),
            )
    return tuple(
        _task(label, step, recipe.run)
        for label, step in zip(recipe.labels(), recipe.steps, strict=True)
    )


def _task(label: str, step: Step, run: Path | None) -> Task:
    command = COMMANDS[step.stage]
    options = _options(step, command, run)
    default = StageOptions.model_fields["run"].default
    folder = options.run if isinstance(options, StageOptions) else run or default
    return Task(label, step, command, options, folder)


def _options(step: Step, command: Command, run: Path | None) -> CommandOptions:
    known = command.options.model_fields
    for name, node in step.options.items():
        if name not in known:
            needed = [one for one, field in known.items() if field.is_required()]
            lacking = [one for one in needed if one not in step.options]
            raise InputError(
                f"{node.place}: {step.stage} has no option {name}",
                expected=", ".join(f"{one} ({known[one].description})" for one in lacking) or None,
                todo=nearest(name, list(known)),
            )
    values = {name: _listed(known[name], node.plain()) for name, node in step.options.items()}
    if run is not None and "run" in known:
        values.setdefault("run", run)
    try:
        options: CommandOptions = command.options(**values)
        refuse_addresses(options)
    except ValidationError as error:
        raise _wrong(step, command, error) from error
    except InputError as error:
        error.add(f"  stage:    {step.place}: {step.stage}")
        raise
    return options


def _listed(field: FieldInfo, value: object) -> object:
    """A value of an option that takes several, of which one may stand alone."""
    alone = get_origin(field.annotation) is tuple and isinstance(value, (str, int, float))
    return [value] if alone and Several not in field.metadata else value


def _wrong(step: Step, command: Command, error: ValidationError) -> InputError:
    first = error.errors()[0]
    if not first["loc"]:  # a rule about several options, which names them itself
        reason = spelt(str(first["ctx"]["error"]), in_recipe(step.stage))
        return InputError(f"{step.place}: {step.stage}: {reason}")
    name = str(first["loc"][0])
    if name not in step.options:
        return InputError(
            f"{step.place}: {step.stage} lacks its option {name}",
            expected=str(command.options.model_fields[name].description),
        )
    return InputError(
        f"{step.options[name].place}: {step.stage}.{name} is wrong",
        got=repr(first["input"]),
        expected=first["msg"],
    )


def plan(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Find out what is done already. What lies behind work that is to be done is to be done."""
    found: list[Task] = []
    behind = False
    for task in tasks:
        known = _behind(task) if behind else _with_state(task)
        whole = known.state in (State.CURRENT, State.UNFINISHED)
        behind = behind or (task.command.feeds and not whole)
        found.append(known)
    return tuple(found)


def _behind(task: Task) -> Task:
    """What lies behind work that is to be done is made from something else, if it is there."""
    known = _with_state(task)
    return known if known.state is State.MISSING else replace(known, state=State.OTHER)


def _with_state(task: Task) -> Task:
    try:
        return replace(task, state=task.command.state(task.options))
    except StaleInputError:
        return replace(task, state=State.OTHER)
    except AlphafixError as error:  # doing it says the same, and stops there
        return replace(task, state=State.MISSING, doubt=str(error).splitlines()[0])


def refuse_to_replace(tasks: tuple[Task, ...], *, overwrite: bool) -> None:
    """Stop before hours of work if a later stage may not replace its result."""
    for task in tasks:
        if task.state is State.OTHER and not (overwrite or task.overwrite):
            raise TargetExistsError(
                f"{task.step.place}: {task.label} was made with other options or from other inputs",
                got=f"another result in {as_given(task.run)}",
                expected="no result yet, or one that is up to date",
                todo=f"give {option('overwrite', True)} to make anew what has changed, or "
                f"{option('run')} for another run directory ({option('dry_run', True)} shows what "
                "would be done)",
            )


def carry_out(
    tasks: Sequence[Task], overwrite: bool, watch: Watch, *, chain: Sequence[Task] = ()
) -> dict[str, Any]:
    """Do what is not up to date, in order; what may fail although it is there is shown.

    Each step is told in one line when it is done, and what it shows while it works is gone then.

    Args:
        tasks: The steps.
        overwrite: Whether results that are there may be replaced.
        watch: Who is told.
        chain: All steps, if these are some of them: their numbers are told.

    Returns:
        What each step that was done gave, by its label.

    Raises:
        GateError: If a limit of `evaluate` is not met; later steps are not done.
        AlphafixError: Whatever else a step raises.
    """
    results: dict[str, Any] = {}
    labels = [task.label for task in chain or tasks]
    for task in tasks:
        current = _with_state(task)
        done = current.state is State.CURRENT
        title = f"[{labels.index(task.label) + 1}/{len(labels)}] {task.label}"
        if done:
            watch.say(f"{title}: up to date")
            if task.options.place is not None:
                sweep_all(task.options.place)  # of a command that was killed at the very end
            if not task.command.judged:
                continue
        begun = time.monotonic()
        try:
            with at_work(task.label):
                found = _work(current, overwrite or task.overwrite, Watch(watch.progress))
        except AlphafixError as error:
            watch.say(f"{title}: failed")
            error.stage = task.label
            raise
        if not done:
            watch.say(f"{title}: {time.monotonic() - begun:.1f} s")
        shown = task.command.show(found, task.options)
        if task.command.judged:
            with at_work(task.label):
                watch.say(*([shown.result] if isinstance(shown.result, str) else shown.result))
        if shown.failure is not None:
            shown.failure.stage = task.label
            raise shown.failure
        if not done:
            results[task.label] = found.to_dict()
    return results


def _work(task: Task, overwrite: bool, watch: Watch) -> Result:
    """Do a step; what is up to date is never made anew only because it may be."""
    own = "overwrite" in type(task.options).model_fields
    careful = task.options.model_copy(update={"overwrite": False}) if own else task.options
    anew = task.options.model_copy(update={"overwrite": True})
    work: Callable[[CommandOptions, Watch], Result] = task.command.work
    if not (own and overwrite):
        return work(careful, watch)
    if task.state is State.OTHER:
        return work(anew, watch)
    try:
        return work(careful, watch)
    except TargetExistsError:
        return work(anew, watch)
