"""A checkpoint and images, end to end: what the file that ships predicts."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphafix.commands.command import Watch
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.work import work as extract
from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.metrics.predictions import Predictions, predict
from alphafix.progress import Progress, silent
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.head import Head


def predict_model(
    options: EvaluateOptions, model: Path, store: FeatureStore, *, progress: Progress = silent
) -> Predictions:
    """Predictions of a checkpoint on the images that stored features were made from.

    The images go through `alphafix extract` again, with the backbone, data and transforms of
    the run and the weights and head of the checkpoint; nothing of it is kept.

    Args:
        options: The run, and backbone and data if they are others than before.
        model: The checkpoint.
        store: The stored features of the same images.
        progress: Told of the images.

    Raises:
        InputError: If it is not known how the features were made, the checkpoint does not fit
            the backbone, or the images are not those of the features.
    """
    with tempfile.TemporaryDirectory() as folder:
        again = Run(Path(folder))
        # The class order of the run is the order of the logits.
        shutil.copyfile(Run(options.run).require(CLASSES), again.path(CLASSES))
        with _without_warnings():
            extract(_extraction(options, model, store, again), Watch(progress))
        made = FeatureStore.open(again.features(options.on))
        if made.ids != store.ids or (made.labels != store.labels).any():
            raise InputError(
                "the images are not those that the stored features were made from",
                got=f"{len(made)} images, stored features of {len(store)}",
                expected="the same images in the same order, to compare base and corrected",
                todo=f"run `alphafix extract --split {options.on} --overwrite`, or correct --data",
            )
        head = Head.load(again.path(HEAD))
        return predict(made, [head.logits], progress=progress)[0]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the stage quiet about what a run of its own would lack: there is no training data."""
    stage = logging.getLogger("alphafix.commands.extract.work")
    level = stage.level
    stage.setLevel(logging.ERROR)
    try:
        yield
    finally:
        stage.setLevel(level)


def _extraction(
    options: EvaluateOptions, model: Path, store: FeatureStore, again: Run
) -> ExtractOptions:
    """How the stored features were made, with the checkpoint in place of the weights."""
    recorded: dict[str, Any] = dict((store.info.get("provenance") or {}).get("options") or {})
    recorded |= {
        name: value
        for name, value in (("backbone", options.backbone), ("data", options.data))
        if value is not None
    }
    missing = [name for name in ("backbone", "data") if not recorded.get(name)]
    if missing:
        raise InputError(
            "it is not known how the stored features were made",
            got=f"no {' and no '.join(missing)} in the manifest of {store.folder}",
            expected="features that `alphafix extract` made",
            todo="give " + " and ".join(f"--{name} SPEC" for name in missing),
        )
    recorded |= {"run": again.folder, "weights": model, "split": options.on}
    known = {name: value for name, value in recorded.items() if name in ExtractOptions.model_fields}
    return ExtractOptions(**known)
