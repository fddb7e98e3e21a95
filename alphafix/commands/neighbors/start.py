"""Starting at `neighbors`: a run directory made from features and a head of the user's own."""

from __future__ import annotations

import logging
from pathlib import Path

from alphafix.commands.given import given_state, is_given, write_given
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import InputError, call, option
from alphafix.features.class_names import read_class_names
from alphafix.features.exchange import read_features
from alphafix.files import sha256_file
from alphafix.foreign.arrays import Given, read_head, read_names, split_files
from alphafix.progress import Progress
from alphafix.run.artifact import State
from alphafix.run.directory import Provenance, Run

logger = logging.getLogger(__name__)


def start_from_arrays(run: Run, options: NeighborsOptions, progress: Progress) -> None:
    """Write what `alphafix extract` would have left: classes, head and features.

    Nothing is done if the run directory was made from the same files already.

    Raises:
        InputError: If only one of features and head is given, training features are
            missing, or the arrays do not fit together.
        TargetExistsError: If the run directory holds other features.
    """
    plan = _plan(options)
    if is_given(run, plan, overwrite=options.overwrite):
        logger.info("%s was made from these files already", run.folder)
        return
    files = split_files(options.features)
    given = Given(
        head=read_head(_existing(options.head)),
        splits={split: read_features(path, split=split) for split, path in files.items()},
        names=read_class_names(files["train"])
        if options.class_names is None
        else read_names(options.class_names),
    )
    write_given(run, given, plan, progress)


def start_state(run: Run, options: NeighborsOptions) -> State:
    """Whether `start_from_arrays` has been here with the same files."""
    return given_state(run, _plan(options))


def _plan(options: NeighborsOptions) -> Provenance:
    """The given files by name and hash; their folders do not matter."""
    if not options.features or options.head is None:
        given, missing = ("features", "head") if options.features else ("head", "features")
        raise InputError(
            f"{option('features')} and {option('head')} go together",
            got=f"only {option(given)}",
            expected="both: training features and the head that they enter",
            todo=f"give {option(missing)} too, or neither to use what {call('extract')} left",
        )
    files = {f"{s} features": path for s, path in split_files(options.features).items()}
    files["head"] = options.head
    if options.class_names is not None:
        files["class names"] = options.class_names
    hashes = {name: sha256_file(_existing(path)) for name, path in files.items()}
    names = {name: path.name for name, path in files.items()}
    return Provenance("start", {**names, "sha256": hashes}, {})


def _existing(path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise InputError(f"{path} is not there", expected="a readable file", todo="check the path")
    return path
