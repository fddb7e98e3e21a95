"""Which command a user types next: the first of the usual chain whose result is not there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphafix.alphanet.neighbors import most_neighbours
from alphafix.checkpoints.head.inspection import settings_beside
from alphafix.commands import COMMANDS
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.options import GROUPS
from alphafix.commands.pages import is_page_stale, page_of
from alphafix.commands.records import is_stale
from alphafix.commands.repeating import (
    RESULTS,
    chosen_before,
    given,
    is_usual,
    lies_at,
    line,
    own_patches,
    records,
)
from alphafix.errors import Pairs, StaleInputError, on_command_line
from alphafix.remote import address_of, as_given, is_address, name_of
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Run
from alphafix.values.classes import ClassTable

if TYPE_CHECKING:
    from alphafix.checkpoints.formats.format import Checkpoint
    from alphafix.commands.command import Command, Result
    from alphafix.commands.options import CommandOptions

# Every stage that leaves something in the run directory, in the order of a user's work.
CHAIN = ("extract", "neighbors", "train", "patch", "evaluate", "compare", "report")

# Those that measure on a split: on test unless told otherwise.
_ON_SPLIT = ("evaluate", "compare", "report")

# Whose results each cannot do without, and does not take when they are stale.
_NEEDS = {
    "train": ("neighbors",),
    "patch": ("train",),
    "evaluate": ("train",),
    "compare": ("neighbors",),
    "report": ("neighbors", "train"),
}

# Where a command that is none of these stands among them: the next is one behind it.
_AS = {
    "demo": "evaluate",
    "fix": "evaluate",
    "features import": "extract",
    "features export": "extract",
    "features merge": "extract",
    "import": "extract",
    "run": "extract",
}


def next_command(command: Command, result: Result, options: CommandOptions) -> str | None:
    """The command line to type next, which can succeed, or None where none follows.

    Args:
        command: The command that is done.
        result: What it gave.
        options: Its options, which name the run directory.

    Raises:
        AlphafixError: What the next command would say, if it is certain to fail.
    """
    if any(getattr(options, name, False) for name in ("dry_run", "plan")):
        return None  # nothing was done
    if getattr(options, "division", None) is not None:  # once all jobs are done
        return _merge(result.run)  # type: ignore[attr-defined]
    if getattr(options, "revert", False):
        return _after_revert(options)
    if command.name in _OTHERS:
        return _OTHERS[command.name](result, options)
    place = getattr(result, "run", None) if command.name in ("run", "import") else None
    place = place or getattr(options, "run", None)
    if place is None:
        return None
    if is_address(place):  # whose parts a recipe has made
        return _merge(place)
    run = Run(Path(place))
    begun = CHAIN.index(_AS.get(command.name, command.name)) + 1
    for stage in CHAIN[begun:]:
        there = _done(run, stage)
        if there and not _stale(run, stage):
            continue
        if stage == "compare" and not there and not run.has(run.manifest("val")):
            continue  # it chooses on validation; the rest does without
        first = _first(run, stage)
        for asked in (stage, first):
            _require(run, asked)
        return _line(run, first)
    page = page_of(run)
    return _words("python", "-m", "webbrowser", str(page)) if page.is_file() else None


def _first(run: Run, stage: str) -> str:
    """A stage, or the one before it whose result it needs and that has to be made (anew)."""
    for needed in _NEEDS.get(stage, ()):
        if not _done(run, needed) or _stale(run, needed):
            return _first(run, needed)
    return stage


def _done(run: Run, stage: str) -> bool:
    """Whether there is a result of a stage, of whatever age."""
    if stage == "patch":
        return _keeps_base(run) or bool(records(run, "patch"))
    return page_of(run).is_file() if stage == "report" else run.has(RESULTS[stage])


def _stale(run: Run, stage: str) -> bool:
    """Whether the result of a stage, which is there, was made from what has changed since."""
    if stage == "patch":
        made = own_patches(run)
        return bool(made) and not _keeps_base(run) and all(is_stale(run, one) for one in made)
    if stage == "report":
        return is_page_stale(run)
    try:
        run.require_fresh(RESULTS[stage])
    except StaleInputError:
        return True
    return False


def _keeps_base(run: Run) -> bool:
    from alphafix.values.correction import Correction

    return run.has(CORRECTION) and Correction.load(run.path(CORRECTION)).is_base


def _require(run: Run, stage: str) -> None:
    """Check that what is there is enough for a stage.

    Raises:
        AlphafixError: What the stage would say otherwise.
    """
    if stage == "neighbors":
        run.require(run.manifest("train"))
        most_neighbours(ClassTable.load(run.require(CLASSES)))
    if stage in _ON_SPLIT and not _splits(run):
        run.require(run.manifest("test"))
    if stage == "compare":
        run.require(run.manifest("val"))


def _splits(run: Run) -> list[str]:
    """The splits that something can be measured on."""
    return [on for on in ("test", "val") if run.has(run.manifest(on))]


def _line(run: Run, stage: str) -> str:
    """The command line of a stage: as it was given before, if it was."""
    again = _done(run, stage)
    chosen = chosen_before(run, stage) if again else {}
    if stage == "neighbors":
        most = most_neighbours(ClassTable.load(run.path(CLASSES)))
        k = chosen.get("k", NeighborsOptions.model_fields["k"].default)
        chosen |= {"k": most} if most < k else {}
    if stage == "patch":
        chosen = {"file": _model(run), **chosen}
        if chosen.get("in_place"):  # not twice: it is restored first
            return _typed(stage, {"file": chosen["file"]}, (("revert", "True"),), run)
    if stage in _ON_SPLIT and _splits(run) == ["val"]:
        chosen["on"] = "val"
    return _typed(stage, chosen, (("overwrite", "True"),) if again else (), run)


def _typed(stage: str, chosen: Mapping[str, Any], pairs: Pairs = (), run: Run | None = None) -> str:
    return on_command_line(stage, tuple(line(COMMANDS[stage], chosen, pairs, run))).strip("`")


def _model(run: Run) -> Path:
    """The model file that the head is of, where it is likely to lie."""
    from alphafix.values.head import Head

    weights = chosen_before(run, "extract").get("weights")
    if weights is not None and (is_address(weights) or Path(weights).exists()):
        return Path(weights)
    source = Head.load(run.path(HEAD)).source
    name = "MODEL" if source is None else source.file
    return lies_at(run, name) or Path(name)


def _merge(run: Path) -> str:
    elsewhere = is_address(run)
    return _words(
        *("alphafix", "features", "merge"), *([address_of(run)] if elsewhere else _run_flag(run))
    )


def _run_flag(folder: Path) -> Iterator[str]:
    if not is_usual(folder):
        yield from ("--run", str(folder))


def _words(*words: str) -> str:
    return shlex.join(words)


def _after_revert(options: Any) -> str:
    """What holds the model's head against the run's, or shows it where there is nothing to hold."""
    run = Run(options.run)
    chosen = {"file": options.file}
    if not run.has(HEAD) or not run.has(CORRECTION) or _stale(run, "train"):
        return _typed("inspect", chosen, run=run)
    chosen |= {} if options.head is None else {"head": options.head}
    return _typed("patch", chosen, (("dry_run", "True"),), run)


def _after_report(result: Any, options: Any) -> str:
    return _words("python", "-m", "webbrowser", str(result.page))


def _after_inspect(result: Any, options: Any) -> str:
    file = as_given(options.file)
    backbone = shlex.quote(_backbone_of(options.file, result.checkpoint))
    line = f"alphafix fix {shlex.quote(file)} --backbone {backbone} --data DATA"
    return f"{line} -o {shlex.quote(name_of(file))}" if is_address(file) else line


def _backbone_of(file: Path, checkpoint: Checkpoint) -> str:
    """What a model file is the weights of, as far as it, or the config.json beside it, says so."""
    kind = checkpoint.format.name
    if kind in ("onnx", "torchscript"):
        return f"{kind}:{as_given(file)}"
    config = settings_beside(checkpoint.path)
    if file.is_dir() and "model_type" in config:
        return f"hf:{as_given(file)}"
    return f"timm:{config.get('architecture', 'NAME')}"


def _after_lists(result: Any, options: Any) -> str | None:
    if options.verify is not None:
        return None
    lists = ("--data", str(result.folder), "--root", str(result.root))
    return _words("alphafix", "train-oltr", *lists, "--recipe", "cifar100-lt")


def _after_training(result: Any, options: Any) -> str:
    images = (*GROUPS["Images and labels"], "data")
    chosen = {name: value for name, value in given(options).items() if name in images}
    chosen.pop("image_size", None)  # the model has it
    return _typed("extract", {"backbone": f"oltr:{result.folder}", **chosen})


_OTHERS = {
    "report": _after_report,
    "inspect": _after_inspect,
    "make-lt": _after_lists,
    "train-oltr": _after_training,
}
