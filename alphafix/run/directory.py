"""The run directory: where each stage leaves its result and how it was made.

Every result carries its provenance: the resolved options, the versions, and the hashes of the
files it was made from. A later stage compares those hashes with the files that are there now,
so that results of different origin are never mixed. Nothing in a result depends on the time
or the machine's name: the same inputs give the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alphafix.errors import FileFormatError, MissingStageError, StaleInputError
from alphafix.files import digest, sha256_file
from alphafix.run.artifact import recorded_plan

# What each stage leaves in the run directory, and the command that makes it.
CLASSES = "classes.json"
HEAD = "head.safetensors"
NEIGHBORS = "neighbors.safetensors"
CORRECTION = "alphanet.safetensors"
REPORT = "report.json"
METRICS = "metrics.jsonl"
COMPARISON = "compare.json"

# What to do about a result that is there but was made in another way.
OTHER_RESULT = (
    "it was made with other options or from other inputs: give --overwrite to replace it, "
    "or --run for another run directory"
)

_MADE_BY = {
    CLASSES: "alphafix extract",
    HEAD: "alphafix extract",
    NEIGHBORS: "alphafix neighbors",
    CORRECTION: "alphafix train",
    REPORT: "alphafix evaluate",
    COMPARISON: "alphafix compare",
}

_VERSIONED = ("alphafix", "torch", "numpy", "faiss-cpu", "faiss-gpu-cu12", "timm", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python, alphafix and the packages whose numerics matter."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
        return self.folder / "features" / split

    def manifest(self, split: str) -> str:
        """Name of the file whose hash stands for the features of ``split``."""
        return f"features/{split}/manifest.json"

    def has(self, name: str) -> bool:
        """Whether a result is there."""
        return self.path(name).is_file()

    def require(self, name: str) -> Path:
        """Path of a result that must be there.

        Raises:
            MissingStageError: If it is not; the command that makes it is named.
        """
        if not self.has(name):
            command = _MADE_BY.get(name)
            if command is None:
                split = Path(name).parent.name
                command = f"alphafix extract --split {split}"
            raise MissingStageError(
                f"{self.path(name)} is not there",
                expected=f"the result of `{command}`",
                todo=f"run `{command}` first, or name the right run directory with --run "
                "(or the environment variable ALPHAFIX_RUN)",
            )
        return self.path(name)

    def hashes(self, *names: str) -> dict[str, str]:
        """SHA-256 of each of the named results, which must be there."""
        return {name: sha256_file(self.require(name)) for name in names}

    def provenance(self, name: str) -> dict[str, Any]:
        """The provenance that the result ``name`` carries (empty if none)."""
        path = self.require(name)
        try:
            return recorded_plan(path)
        except FileFormatError as error:
            raise FileFormatError(
                f"a result of the run is damaged: {error}",
                todo=f"run `{_MADE_BY.get(name, 'alphafix extract')} --overwrite` again",
            ) from error

    def require_fresh(self, name: str) -> None:
        """Check that ``name`` was made from the files that are there now.

        Raises:
            MissingStageError: If it is not there.
            StaleInputError: If one of its inputs has changed since; the command to repeat
                is named.
        """
        for source, recorded in self.provenance(name).get("inputs", {}).items():
            current = sha256_file(self.path(source)) if self.has(source) else "gone"
            if current != recorded:
                raise StaleInputError(
                    f"{self.path(name)} is stale: {source} has changed since it was made",
                    got=f"{source} {current[:12]}",
                    expected=f"{source} {recorded[:12]}, from which it was made",
                    todo=f"run `{_MADE_BY[name]} --overwrite` again",
                )

    def is_current(self, name: str, provenance: Provenance) -> bool:
        """Whether ``name`` is there, undamaged, and made exactly as ``provenance`` says."""
        return self.has(name) and digest(self.provenance(name)) == digest(provenance.to_dict())
