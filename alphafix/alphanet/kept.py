"""Finished trials of an unfinished sweep, so that it can be continued."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alphafix.files import digest, read_tensors, write_tensors
from alphafix.reading.boundary import reading
from alphafix.values.trials import Trials

logger = logging.getLogger(__name__)


class Keep(Protocol):
    """Where a sweep leaves each batch of trials when it is done, and finds it again."""

    def get(self, key: str) -> Trials | None:
        """The trials kept under ``key``, or None."""

    def put(self, key: str, trials: Trials) -> None:
        """Keep trials under ``key``: a hash of all that decides them but the data."""


@dataclass(frozen=True)
class FinishedTrials:
    """Trials kept in the files of a folder.

    Attributes:
        folder: Where they are.
        made_from: Hash of the data; trials of other data are not found.
        like: A file that no fewer people can read, such as the head's.
    """

    folder: Path
    made_from: str
    like: Path | None = None

    def get(self, key: str) -> Trials | None:
        """The trials kept under ``key``, or None."""
        path = self._path(key)
        if not path.is_file():
            return None
        tensors, metadata = read_tensors(path)
        with reading(path, "finished trials", todo="remove the file"):
            trials = Trials.of(tensors, metadata["trials"])
        logger.info("%d finished trials found in %s", len(trials), self.folder)
        return trials

    def put(self, key: str, trials: Trials) -> None:
        """Keep trials under ``key``."""
        metadata = {"trials": trials.to_metadata()}
        path = self._path(key)
        write_tensors(path, trials.tensors(), metadata, overwrite=True, like=self.like)

    def clear(self) -> None:
        """Remove all that is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{digest([self.made_from, key])[:16]}.safetensors"
