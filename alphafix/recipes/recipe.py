"""A recipe as written: its stages in order, with their options not yet checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alphafix.documents import Node, Place, nearest, parse, read_document
from alphafix.errors import InputError, call
from alphafix.recipes.expected import KEYS as TABLE
from alphafix.remote import named

KEYS = ("description", "extends", "run", "expected", "set", "stages")

# Recipes that extend one another: more than this is a circle.
_MOST_EXTENDED = 10


@dataclass(frozen=True)
class Step:
    """One stage of a recipe.

    Attributes:
        stage: Its name, as on the command line.
        options: Its options by the names of their fields.
        place: Where it stands.
    """

    stage: str
    options: dict[str, Node]
    place: Place


@dataclass(frozen=True)
class Recipe:
    """A chain of stages.

    Attributes:
        file: The file.
        description: What it is for.
        run: The run directory of all stages that name no other, if it says so.
        expected: File with the figures that should come out, if there is one.
        steps: The stages, in order.
    """

    file: Path
    description: str = ""
    run: Path | None = None
    expected: Path | None = None
    steps: tuple[Step, ...] = ()

    def labels(self) -> list[str]:
        """A name for each step: that of the stage, numbered where it is there several times."""
        stages = [step.stage for step in self.steps]
        return [
            stage if stages.count(stage) == 1 else f"{stage}.{stages[: i + 1].count(stage)}"
            for i, stage in enumerate(stages)
        ]


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe, what it extends, and what is set from outside.

    Args:
        path: The file.
        settings: ``STAGE.OPTION=VALUE`` (``STAGE.2.OPTION`` for the second of that name), or
            ``run=DIR``; values are written as in the file.

    Raises:
        InputError: If a name is unknown; the nearest known one is named.
        FileFormatError: If a file is no YAML.
    """
    return with_settings(_load(path, 0), settings)


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with options that are set from outside (see `load_recipe`).

    Raises:
        InputError: If a name is unknown; the nearest known one is named.
    """
    for text in settings:
        name, equals, value = text.partition("=")
        flag = f"--set {text}"
        if not equals:
            raise InputError(
                f"{flag} is not understood", expected="STAGE.OPTION=VALUE, like train.rho=0.5"
            )
        if not value.strip():
            raise InputError(
                f"{flag} has no value",
                got="nothing behind =, as of a variable that is not set",
                expected="STAGE.OPTION=VALUE, like train.rho=0.5",
                todo=f"give one ({name.strip()}=null for none), or leave it out",
            )
        recipe = _set(recipe, name.strip(), _value(value, flag), Place(flag))
    return recipe


def _value(text: str, flag: str) -> Node:
    """A value of the command line: lists in brackets, numbers, text that needs no quotes."""
    node = parse(text, flag, one_line=True)
    return Node(text, Place(flag)) if isinstance(node.value, dict) else node


def _load(path: Path, depth: int) -> Recipe:
    document = read_document(path)
    parts = document.mapping("a recipe")
    for name, node in parts.items():
        if name not in KEYS:
            raise _something_else(path, parts) or InputError(
                f"{node.place}: a recipe has no part {name}",
                expected=", ".join(KEYS),
                todo=nearest(name, list(KEYS)),
            )
    recipe = Recipe(path)
    if "extends" in parts:
        if depth == _MOST_EXTENDED:
            raise InputError(f"{parts['extends'].place}: recipes extend one another in a circle")
        recipe = _load(path.parent / _path(parts["extends"], "extends"), depth + 1)
        recipe = replace(recipe, file=path)
    if "description" in parts:
        recipe = replace(recipe, description=_text(parts["description"], "description"))
    if "run" in parts:
        recipe = replace(recipe, run=_path(parts["run"], "run"))
    if "expected" in parts:
        recipe = replace(recipe, expected=path.parent / _path(parts["expected"], "expected"))
    if "stages" in parts:
        recipe = replace(recipe, steps=_steps(parts["stages"]))
    for name, node in parts.get("set", Node(None, document.place)).mapping("set").items():
        recipe = _set(recipe, name, node, node.place)
    if not recipe.steps:
        raise InputError(
            f"{path} has no stages",
            expected="stages: a list, one stage an item",
            todo="for example:\n            stages:\n              - extract: {...}\n"
            "              - neighbors\n              - train: {rho: 0.5}",
        )
    return recipe


def _something_else(path: Path, parts: Mapping[str, Node]) -> InputError | None:
    """What to say of a file that another file or command takes; None if it is no such file."""
    from alphafix.oltr.training.recipes import PARTS

    names = {field_name(name) for name in parts}
    if names <= {*PARTS}:
        return InputError(
            f"{path} says how a base model is trained, and has no stages",
            got=", ".join(parts),
            expected="a chain of stages",
            todo=f"{call('train-oltr', data='DATA', recipe=path)} trains by it, or a chain's "
            f"`- train-oltr: {{recipe: {path.name}, ...}}`",
        )
    if names <= {*TABLE}:
        return InputError(
            f"{path} is a table of expected figures, and has no stages",
            got=", ".join(parts),
            expected="a chain of stages",
            todo=f"run the recipe that names it (expected: {path.name}), with --expected",
        )
    return None


def _path(node: Node, what: str) -> Path:
    """A path that a recipe names; numbers and nothing are none, unless they are in quotes."""
    if not isinstance(node.value, str) or not node.value.strip():
        raise InputError(
            f"{node.place}: {what} is no path",
            got="nothing" if node.value in (None, "") else repr(node.plain())[:80],
            expected="a path (one that reads as a number as ./5)",
            todo="write the path, or leave it out",
        )
    return named(node.value)


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str):
        raise InputError(f"{node.place}: {what} is no text", got=repr(node.plain())[:80])
    return node.value


def _steps(node: Node) -> tuple[Step, ...]:
    if not isinstance(node.value, list):
        raise InputError(
            f"{node.place}: stages is no list",
            got=repr(node.plain())[:80],
            expected="one stage an item: `- neighbors` or `- train: {rho: 0.5}`",
        )
    return tuple(_step(item) for item in node.value)


def _step(item: Node) -> Step:
    if isinstance(item.value, str):
        return Step(item.value, {}, item.place)
    parts = item.mapping("a stage")
    if len(parts) != 1:
        raise InputError(
            f"{item.place}: an item of stages is one stage",
            got=", ".join(parts) or "nothing",
            expected="`- train:` with its options indented below it",
            todo="indent the options by two more columns, or begin each stage with a dash",
        )
    ((stage, node),) = parts.items()
    options = node.mapping(f"the options of {stage}")
    return Step(stage, {field_name(name): value for name, value in options.items()}, item.place)


def field_name(name: str) -> str:
    """The field that an option's name means: dashes are as good as underscores."""
    return name.replace("-", "_")


def _set(recipe: Recipe, name: str, value: Node, place: Place) -> Recipe:
    if name == "run":
        return replace(recipe, run=_path(value, "run"))
    where, _, option = name.rpartition(".")
    labels = recipe.labels()
    if where not in labels or not option:
        raise InputError(
            f"{place}: the recipe has no stage {where or name}",
            got=name,
            expected="STAGE.OPTION with one of " + ", ".join(labels),
            todo=nearest(where or name, labels),
        )
    place_in = labels.index(where)
    step = recipe.steps[place_in]
    changed = replace(step, options={**step.options, field_name(option): value})
    steps = (*recipe.steps[:place_in], changed, *recipe.steps[place_in + 1 :])
    return replace(recipe, steps=steps)
