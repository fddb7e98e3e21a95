"""The run directory: where each stage leaves its result and how it was made.

Every result carries its provenance: the resolved options, the versions, and the hashes of the
files it was made from. A later stage compares those hashes with the files that are there now,
so that results of different origin are never mixed. Nothing in a result depends on the time
or the machine's name: the same inputs give the same bytes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alphafix.errors import (
    FileFormatError,
    InputError,
    MissingStageError,
    StaleInputError,
    call,
    option,
)
from alphafix.files import digest, sha256_file
from alphafix.reading.boundary import reading, real
from alphafix.reading.schema import typed
from alphafix.remote import origin
from alphafix.run.artifact import Artifact, recorded_plan
from alphafix.run.origin import how_to_get


class Name(str):
    """Name of a result in a run directory, which knows the command that makes it.

    Attributes:
        command: The command, as on the command line.
        of_split: Which split, for features.
    """

    command: str
    of_split: str | None

    def __new__(cls, file: str, command: str, split: str | None = None) -> Name:
        """A name, like any text."""
        name = super().__new__(cls, file)
        name.command, name.of_split = command, split
        return name

    def again(self, **options: object) -> str:
        """The command that makes it, in the words of an error."""
        return call(self.command, **({"split": self.of_split} if self.of_split else {}), **options)


CLASSES = Name("classes.json", "extract")
HEAD = Name("head.safetensors", "extract")
NEIGHBORS = Name("neighbors.safetensors", "neighbors")
CORRECTION = Name("alphanet.safetensors", "train")
METRICS = Name("metrics.jsonl", "train")
REPORT = Name("report.json", "evaluate")
MODEL_REPORT = Name("report-model.json", "evaluate")
COMPARISON = Name("compare.json", "compare")
STEERED = Name("compare.safetensors", "compare")

FEATURES = "features"
"""Folder of the features of all splits, one folder each."""

PARTS = "parts"
"""Folder of what the jobs of a job array have extracted, one folder a job."""

MADE = "made"
"""Folder of the records of files that cannot say themselves how they were made."""

UNFINISHED = "unfinished-trials"
"""Folder where finished batches of an unfinished sweep wait."""

FITTED = "fitted-methods"
"""Folder where the methods of an unfinished comparison or choice wait."""

FORMS = "other-forms"
"""Folder of the trials of other forms of AlphaNet, which `run --expected` measures."""

PAGE = "report"
"""Folder of the report's page, unless another one is asked for."""

LOGS = "tensorboard"
"""Folder of TensorBoard's files, unless another one is asked for."""

RESULTS = (
    *(CLASSES, HEAD, NEIGHBORS, CORRECTION, METRICS),
    *(REPORT, MODEL_REPORT, COMPARISON, STEERED),
)

_VERSIONED = ("alphafix", "torch", "numpy", "faiss-cpu", "faiss-gpu-cu12", "timm", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python, alphafix and the packages whose numerics matter."""
    return dict(_versions())


@functools.cache  # each is parsed from its package's metadata, and every plan has all of them
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in _VERSIONED:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


@dataclass(frozen=True)
class Provenance:
    """How a result was made.

    Attributes:
        stage: Name of the command.
        options: Its resolved options.
        inputs: SHA-256 of each file of the run directory that was read, by name.
        versions: Versions of the packages that made it.
    """

    stage: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=versions)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "options": dict(self.options), "inputs": dict(self.inputs)}


def _links(place: Path) -> Iterator[Path]:
    """The links in a folder, at any depth, and the folder itself if it is one."""
    if place.is_symlink():
        yield place
        return
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                yield path


class Run:
    """A run directory.

    Args:
        folder: Its path; it is made when the first result is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Path of a result, there or not."""
        return self.folder / name

    def features(self, split: str) -> Path:
        """Folder of the features of ``split``."""
        return self.folder / FEATURES / split

    def manifest(self, split: str) -> Name:
        """Name of the file whose hash stands for the features of ``split``."""
        return Name(f"{FEATURES}/{split}/manifest.json", "extract", split)

    def record(self, command: str, what: object = None) -> Path:
        """Where it is recorded how a command made files that cannot say so themselves.

        Args:
            command: The command.
            what: What tells its results apart, like the path of a target.
        """
        name = command.replace(" ", "-")
        return (
            self.folder
            / MADE
            / f"{name}{'' if what is None else '-' + digest(str(what))[:12]}.json"
        )

    def place_of(self, path: Path) -> str:
        """A path as seen from here: the same however it is named, and after all of it has moved.

        A copy of a file that is elsewhere is known by its address, wherever the copy lies.
        """
        if (address := origin(path)) is not None:
            return address
        return Path(os.path.relpath(real(path), real(self.folder))).as_posix()

    def require_inside(self) -> None:
        """Check that what is written in the run's folders stays there.

        Raises:
            InputError: If something in them is a link that leads out of the run directory.
        """
        own = real(self.folder)
        for name in (FEATURES, PARTS, MADE, UNFINISHED, FITTED, FORMS, PAGE, LOGS):
            for path in _links(self.path(name)):
                if not real(path).is_relative_to(own):
                    raise InputError(
                        f"{path} is a link that leads out of the run directory",
                        got=f"a link to {os.readlink(path)}",
                        expected="the run directory's own folders and files in it",
                        todo="put what it leads to in its place (the whole run directory may be "
                        "a link)",
                    )

    def holds(self, path: Path) -> bool:
        """Whether a path is that of a result, or in a folder from which results are read."""
        own, place = real(self.folder), real(path)
        if not place.is_relative_to(own):
            return False
        parts = place.relative_to(own).parts
        return parts[:1] in {
            (name,) for name in (*RESULTS, FEATURES, PARTS, MADE, UNFINISHED, FITTED, FORMS)
        }

    def has(self, name: str) -> bool:
        """Whether a result is there."""
        return self.path(name).is_file()

    def require(self, name: Name) -> Path:
        """Path of a result that must be there.

        Raises:
            MissingStageError: If it is not; the command that makes it is named.
        """
        if not self.has(name):
            split = name.of_split
            how = f"run {name.again()} first" if split is None else self.how_to_get(split)
            raise MissingStageError(
                f"{self.path(name)} is not there",
                expected=f"the result of {name.again()}"
                if split is None
                else f"features of {split}",
                todo=f"{how}; or name the right run directory with {option('run')} (or the "
                "environment variable ALPHAFIX_RUN)",
            )
        return self.path(name)

    def how_to_get(self, split: str) -> str:
        """What gives features of a split, in the words of an error (see `how_to_get`)."""
        path = self.path(self.manifest("train"))
        stage = recorded_plan(path).get("stage", "") if path.is_file() else None
        return how_to_get(split, stage)

    def hashes(self, *names: Name) -> dict[str, str]:
        """SHA-256 of each of the named results, which must be there."""
        return {str(name): sha256_file(self.require(name)) for name in names}

    def artifact(self, name: Name, plan: Provenance, **parts: Any) -> Artifact:
        """A result as it would be made now; ``parts`` are `Artifact`'s further fields."""
        return Artifact(self.path(name), plan.to_dict(), **parts)

    def provenance(self, name: Name) -> dict[str, Any]:
        """The provenance that the result ``name`` carries (empty if none)."""
        path = self.require(name)
        try:
            return recorded_plan(path)
        except FileFormatError as error:
            raise FileFormatError(
                f"a result of the run is damaged: {error.what}",
                got=error.got,
                todo=f"run {name.again(overwrite=True)} again",
            ) from error

    def require_fresh(self, name: Name) -> None:
        """Check that ``name`` was made from the files that are there now.

        Raises:
            MissingStageError: If it is not there.
            StaleInputError: If one of its inputs has changed since; the command to repeat
                is named.
        """
        with reading(self.path(name), "a result that says what it was made from"):
            inputs = typed(dict[str, str], self.provenance(name).get("inputs", {}), "inputs")
        for source, recorded in inputs.items():
            current = sha256_file(self.path(source)) if self.has(source) else "gone"
            if current != recorded:
                raise StaleInputError(
                    f"{self.path(name)} is stale: {source} has changed since it was made",
                    got=f"{source} {current[:12]}",
                    expected=f"{source} {recorded[:12]}, from which it was made",
                    todo=f"run {name.again(overwrite=True)} again",
                )
