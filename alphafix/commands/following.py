"""Which command a user types next: the first of the usual chain whose result is not there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphafix.alphanet.neighbors import most_neighbours
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.options import StageOptions
from alphafix.commands.records import is_stale
from alphafix.errors import StaleInputError
from alphafix.reading.boundary import real
from alphafix.remote import address_of, as_given, is_address, name_of, named
from alphafix.run.artifact import recorded_plan
from alphafix.run.directory import (
    CLASSES,
    COMPARISON,
    CORRECTION,
    HEAD,
    MADE,
    NEIGHBORS,
    PAGE,
    REPORT,
    Run,
)
from alphafix.values.classes import ClassTable

if TYPE_CHECKING:
    from alphafix.commands.command import Command, Result
    from alphafix.commands.options import CommandOptions

# Every stage that leaves something in the run directory, in the order of a user's work.
CHAIN = ("extract", "neighbors", "train", "patch", "evaluate", "compare", "report")

# Those that measure on a split: on test unless told otherwise.
_ON_SPLIT = ("evaluate", "compare", "report")

# The result of each that says itself how it was made.
_RESULTS = {
    "neighbors": NEIGHBORS,
    "train": CORRECTION,
    "evaluate": REPORT,
    "compare": COMPARISON,
}

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
    page = _page(run)
    return _words("python", "-m", "webbrowser", str(page)) if page.is_file() else None


def _first(run: Run, stage: str) -> str:
    """A stage, or the one before it whose result it needs and that has to be made (anew)."""
    for needed in _NEEDS.get(stage, ()):
        if not _done(run, needed) or _stale(run, needed):
            return _first(run, needed)
    return stage


def _page(run: Run) -> Path:
    return run.path(PAGE) / "index.html"


def _done(run: Run, stage: str) -> bool:
    """Whether there is a result of a stage, of whatever age."""
    if stage == "patch":
        return _keeps_base(run) or bool(_patches(run))
    return _page(run).is_file() if stage == "report" else run.has(_RESULTS[stage])


def _stale(run: Run, stage: str) -> bool:
    """Whether the result of a stage, which is there, was made from what has changed since."""
    if stage == "patch":
        return not _keeps_base(run) and all(_is_old_patch(run, made) for made in _patches(run))
    if stage == "report":
        made = run.record("report", run.place_of(_page(run)))
        return made.is_file() and is_stale(run, made, CORRECTION, COMPARISON)
    try:
        run.require_fresh(_RESULTS[stage])
    except StaleInputError:
        return True
    return False


def _patches(run: Run) -> list[Path]:
    """The records of patched models, the latest last."""
    return sorted(run.path(MADE).glob("patch*.json"), key=lambda made: made.stat().st_mtime_ns)


def _is_old_patch(run: Run, made: Path) -> bool:
    """Whether a model was patched with an earlier correction of the run, and can be once more."""
    given = recorded_plan(made)["options"]
    elsewhere = given["apply"] or given["correction"]
    file = _placed(run, given["file"])
    return not elsewhere and ("://" in file or Path(file).exists()) and is_stale(run, made)


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
    words = ["alphafix", stage]
    if stage == "neighbors":
        most = most_neighbours(ClassTable.load(run.path(CLASSES)))
        words += ["--k", str(most)] if most < NeighborsOptions.model_fields["k"].default else []
    again = _done(run, stage)
    if stage == "patch" and again:
        return _patch_again(run)
    if stage == "patch":
        words.append(str(_model(run)))
    if stage in _ON_SPLIT:
        words += ["--on", "val"] if _splits(run) == ["val"] else []
    return _words(*words, *_run_flag(run.folder), *(["--overwrite"] if again else []))


def _patch_again(run: Run) -> str:
    """The command line that patched a model last, for the correction of now."""
    given = recorded_plan(_patches(run)[-1])["options"]
    words = ["alphafix", "patch", _placed(run, given["file"])]
    if given["in_place"]:  # not twice: it is restored first
        return _words(*words, "--revert", *_run_flag(run.folder))
    for name in ("output", "card"):
        words += [f"--{name}", _placed(run, given[name])] if given[name] else []
    for name in ("head", "base_model"):
        words += [f"--{name.replace('_', '-')}", given[name]] if given[name] else []
    for name in ("delta", "direction_only"):
        words += [f"--{name.replace('_', '-')}"] if given[name] else []
    return _words(*words, *_run_flag(run.folder), "--overwrite")


def _placed(run: Run, place: str) -> str:
    """A path that is recorded as seen from the run directory, or an address, as a user names it."""
    if "://" in place:
        return place
    written = os.path.normpath if run.folder.is_absolute() else os.path.relpath
    return written(real(run.folder) / place)


def _model(run: Run) -> Path:
    """The model file that the head is of, where it is likely to lie."""
    from alphafix.values.head import Head

    source = Head.load(run.path(HEAD)).source
    name = "MODEL" if source is None else source.file
    places = (Path(name), run.folder / name, run.folder.parent / name)
    return next((place for place in places if place.exists()), Path(name))


def _merge(run: Path) -> str:
    elsewhere = is_address(run)
    return _words(
        *("alphafix", "features", "merge"), *([address_of(run)] if elsewhere else _run_flag(run))
    )


def _run_flag(folder: Path) -> Iterator[str]:
    usual = os.environ.get("ALPHAFIX_RUN") or StageOptions.model_fields["run"].default
    if folder != named(str(usual)):
        yield from ("--run", str(folder))


def _words(*words: str) -> str:
    return shlex.join(words)


def _after_report(result: Any, options: Any) -> str:
    return _words("python", "-m", "webbrowser", str(result.page))


def _after_inspect(result: Any, options: Any) -> str:
    file = as_given(options.file)
    line = f"alphafix fix {shlex.quote(file)} --backbone timm:NAME --data DATA"
    return f"{line} -o {shlex.quote(name_of(file))}" if is_address(file) else line


def _after_lists(result: Any, options: Any) -> str | None:
    if options.verify is not None:
        return None
    lists = ("--data", str(result.folder), "--root", str(result.root))
    return _words("alphafix", "train-oltr", *lists, "--recipe", "cifar100-lt")


def _after_training(result: Any, options: Any) -> str:
    words = ["alphafix", "extract", "--backbone", f"oltr:{result.folder}", "--data", options.data]
    for name in ("root", "class_map"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", as_given(value)]
    return _words(*words)


_OTHERS = {
    "report": _after_report,
    "inspect": _after_inspect,
    "make-lt": _after_lists,
    "train-oltr": _after_training,
}
