"""Methods that were fitted before an interruption, so that they need not be fitted again."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.alphanet.kept import FinishedTrials, Keep
from alphafix.files import digest, read_tensors, write_tensors
from alphafix.reading.boundary import reading
from alphafix.reading.schema import require_arrays, typed
from alphafix.rivals import Rival
from alphafix.rivals.data import FitData, Offered, of_correction
from alphafix.values.arrays import Array
from alphafix.values.correction import Correction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedMethods:
    """Trained methods in the files of a folder, one each, with all of their settings.

    Kept are linear heads; closed forms, and what is no linear head, are fitted again.

    Attributes:
        folder: Where they are.
        made_from: Hash of the data; methods fitted on other data are not found.
        like: A file that no fewer people can read, such as the head's.
    """

    folder: Path
    made_from: str
    like: Path | None = None

    def get(self, rival: Rival, data: FitData) -> tuple[Offered, float] | None:
        """A method as it was fitted, and how many seconds that took; None if it was not."""
        path = self._path(rival, data)
        if not rival.trains or not path.is_file():
            return None
        tensors, metadata = read_tensors(path)
        found = []
        with reading(path, "a fitted method", todo="remove the file"):
            settings = typed(list[dict[str, Any]], metadata["settings"], "settings")
            for place, own in enumerate(settings):
                parts = {
                    name: tensors[f"{place}.{name}"]
                    for name in ("classes", "rows", "biases")
                    if f"{place}.{name}" in tensors
                }
                require_arrays(path, parts, {"classes": "i R", "rows": "f R D"})
                correction = Correction(
                    parts["classes"].astype(np.int64),
                    parts["rows"],
                    parts.get("biases"),
                    method=rival.name,
                )
                found.append(of_correction(data, correction, own))
            seconds = typed(float, metadata["seconds"], "seconds")
        logger.info("%s is fitted already", rival.name)
        return Offered.of(data, found), seconds

    def put(self, rival: Rival, data: FitData, offered: Offered, seconds: float) -> None:
        """Keep a method that was trained."""
        found = [offered.build(place, 0.0) for place in range(len(offered.paths))]
        if not rival.trains or any(one.correction is None for one in found):
            return
        tensors: dict[str, Array] = {}
        for place, one in enumerate(found):
            if one.correction is not None:
                parts: dict[str, Array] = {
                    "classes": one.correction.classes,
                    "rows": one.correction.rows,
                }
                if one.correction.biases is not None:
                    parts["biases"] = one.correction.biases
                tensors |= {f"{place}.{name}": array for name, array in parts.items()}
        metadata = {"settings": [one.settings for one in found], "seconds": seconds}
        path = self._path(rival, data)
        write_tensors(path, tensors, metadata, overwrite=True, like=self.like)

    def trials(self, *of: object) -> Keep:
        """Where trials of AlphaNet are kept; ``of`` tells apart what they are for."""
        return FinishedTrials(self.folder, digest([self.made_from, *of]), like=self.like)

    def clear(self) -> None:
        """Remove all that is kept, and what killed commands left of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()  # unless another command has left something

    def _path(self, rival: Rival, data: FitData) -> Path:
        key = [self.made_from, rival.name, dict(rival.arguments), data.seed]
        return self.folder / f"{digest(key)[:16]}.safetensors"


def offer(
    rival: Rival, data: FitData, finished: FinishedMethods | None = None
) -> tuple[Offered, float]:
    """A method, fitted unless it is kept, and how many seconds that took.

    Args:
        rival: The method.
        data: What to fit it on.
        finished: Where it is kept.

    Raises:
        OutOfTime: If it trains, and the budget of ``data`` is used up.
    """
    if finished is not None and (kept := finished.get(rival, data)) is not None:
        return kept
    if rival.trains:
        data.budget.tick()
    start = time.perf_counter()
    offered = rival.offer(data)
    seconds = time.perf_counter() - start
    if finished is not None:
        finished.put(rival, data, offered, seconds)
    return offered, seconds
