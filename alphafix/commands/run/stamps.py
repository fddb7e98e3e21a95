"""Stamps: what a recipe's stage was made from, where its result does not say so itself.

A stamp lies in the run directory under ``recipe/``. It holds the options of the stage and the
hashes of the files that it read and wrote, and says that all is as it was if they are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alphafix.commands.options import CommandOptions
from alphafix.commands.run.stages import FEATURES, Stage
from alphafix.errors import FileFormatError
from alphafix.files import digest, read_json, sha256_file, write_json
from alphafix.run.artifact import State
from alphafix.run.directory import Run, versions


def stamp_path(run: Run, label: str) -> Path:
    """Where the stamp of the step ``label`` lies."""
    return run.path("recipe") / f"{label.replace(' ', '-')}.json"


def stamped_state(run: Run, label: str, stage: Stage, options: CommandOptions) -> State:
    """Whether the files of a step are as its stamp says."""
    path = stamp_path(run, label)
    if not path.is_file():
        return State.MISSING
    try:
        earlier = dict(read_json(path))
        files = [Path(name) for name in earlier["outputs"]]
    except (FileFormatError, KeyError, TypeError, ValueError):
        return State.MISSING  # a stamp is no result: without it the stage is done again
    if digest(earlier) == digest(_stamp(run, stage, options, files)):
        return State.CURRENT
    return State.MISSING if stage.free else State.OTHER


def write_stamp(
    run: Run, label: str, stage: Stage, options: CommandOptions, files: Iterable[Path]
) -> None:
    """Note what a step was made from and what it wrote, after it is done."""
    write_json(stamp_path(run, label), _stamp(run, stage, options, files), overwrite=True)


def _stamp(
    run: Run, stage: Stage, options: CommandOptions, files: Iterable[Path]
) -> dict[str, Any]:
    features = sorted(run.path(FEATURES).glob("*/manifest.json"))
    read = [*(run.path(name) for name in stage.inputs), *_named(options)]
    read += features if FEATURES in stage.inputs else []
    return {
        "options": options.model_dump(mode="json", exclude={"overwrite"}),
        "versions": versions(),
        "inputs": _hashes(read),
        "outputs": _hashes(files),
    }


def _named(options: CommandOptions) -> Iterable[Path]:
    """Paths that the options name, alone, in a list, or as SPLIT=FILE."""
    for name, value in options:
        if name in ("run", "output"):
            continue
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Path):
                yield item
            elif isinstance(item, str):
                yield from (Path(item), Path(item.partition("=")[2]))


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    return {str(file): sha256_file(file) for file in files if file.is_file()}
