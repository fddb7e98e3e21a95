"""Which command a user types next: the first of the usual chain whose result is not there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.options import StageOptions
from alphafix.errors import InputError, option
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
    run = Run(Path(place))
    begun = CHAIN.index(_AS.get(command.name, command.name)) + 1
    for stage in CHAIN[begun:]:
        if not _done(run, stage):
            _require(run, stage)
            return _line(run, stage)
    page = run.path(PAGE) / "index.html"
    if not page.is_file():
        return None
    shown = (run.path(name) for name in (CORRECTION, COMPARISON))
    if any(made.stat().st_mtime > page.stat().st_mtime for made in shown if made.is_file()):
        return f"{_line(run, 'report')} --overwrite"  # the page knows nothing of it
    return _words("python", "-m", "webbrowser", str(page))


def _done(run: Run, stage: str) -> bool:
    """Whether there is a result of a stage, of whatever age."""
    results = {
        "neighbors": NEIGHBORS,
        "train": CORRECTION,
        "evaluate": REPORT,
        "compare": COMPARISON,
        "report": f"{PAGE}/index.html",
    }
    if stage == "patch":
        kept = run.has(CORRECTION) and _keeps_base(run)
        return kept or any(run.path(MADE).glob("patch*.json"))
    return run.has(results[stage])


def _keeps_base(run: Run) -> bool:
    from alphafix.values.correction import Correction

    return Correction.load(run.path(CORRECTION)).is_base


def _require(run: Run, stage: str) -> None:
    """Check that what is there is enough for a stage.

    Raises:
        AlphafixError: What the stage would say otherwise.
    """
    if stage == "neighbors":
        run.require(run.manifest("train"))
        _require_neighbours(ClassTable.load(run.require(CLASSES)))
    if stage in _ON_SPLIT and not _splits(run):
        run.require(run.manifest("test"))


def _require_neighbours(classes: ClassTable) -> None:
    classes.require_correctable()
    if len(classes.base) < 2:
        raise InputError(
            "there is only one class that is not rare, and so no choice of neighbours",
            got=classes.names[classes.base[0]],
            expected="two or more",
            todo=f"lower the threshold with {option('few_below')}",
        )


def _splits(run: Run) -> list[str]:
    """The splits that something can be measured on."""
    return [on for on in ("test", "val") if run.has(run.manifest(on))]


def _line(run: Run, stage: str) -> str:
    words = ["alphafix", stage]
    if stage == "neighbors":
        most = len(ClassTable.load(run.path(CLASSES)).base) - 1
        words += ["--k", str(most)] if most < NeighborsOptions.model_fields["k"].default else []
    if stage == "patch":
        words.append(str(_model(run)))
    if stage in _ON_SPLIT:
        words += ["--on", "val"] if _splits(run) == ["val"] else []
    return _words(*words, *_run_flag(run.folder))


def _model(run: Run) -> Path:
    """The model file that the head is of, where it is likely to lie."""
    from alphafix.values.head import Head

    source = Head.load(run.path(HEAD)).source
    name = "MODEL" if source is None else source.file
    places = (Path(name), run.folder / name, run.folder.parent / name)
    return next((place for place in places if place.exists()), Path(name))


def _merge(run: Path) -> str:
    from alphafix.remote import address_of, is_address

    elsewhere = is_address(run)
    return _words(
        *("alphafix", "features", "merge"), *([address_of(run)] if elsewhere else _run_flag(run))
    )


def _run_flag(folder: Path) -> Iterator[str]:
    usual = os.environ.get("ALPHAFIX_RUN") or StageOptions.model_fields["run"].default
    if folder != Path(usual):
        yield from ("--run", str(folder))


def _words(*words: str) -> str:
    return shlex.join(words)


def _after_report(result: Any, options: Any) -> str:
    return _words("python", "-m", "webbrowser", str(result.page))


def _after_inspect(result: Any, options: Any) -> str:
    return f"alphafix fix {shlex.quote(str(options.file))} --backbone timm:NAME --data DATA"


def _after_lists(result: Any, options: Any) -> str | None:
    if options.verify is not None:
        return None
    lists = ("--data", str(result.folder), "--root", str(result.root))
    return _words("alphafix", "train-oltr", *lists, "--recipe", "cifar100-lt")


def _after_training(result: Any, options: Any) -> str:
    words = ["alphafix", "extract", "--backbone", f"oltr:{result.folder}", "--data", options.data]
    for name in ("root", "class_map"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return _words(*words)


_OTHERS = {
    "report": _after_report,
    "inspect": _after_inspect,
    "make-lt": _after_lists,
    "train-oltr": _after_training,
}
