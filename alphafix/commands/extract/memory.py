"""What a run keeps of a base model's memory, so that a report needs the model no more."""

from __future__ import annotations

import shutil
from pathlib import Path

from alphafix.files import atomic_path, sha256_file
from alphafix.oltr.training.embedding import EMBEDDING
from alphafix.run.directory import Run


def keep_embedding(run: Run, backbone: str) -> None:
    """Copy the sample that train-oltr left beside a model with a memory into the run.

    A sample of another model, from an extraction before, is removed.

    Args:
        run: The run.
        backbone: The model, as the user gave it.
    """
    kind, _, folder = backbone.partition(":")
    source, target = Path(folder) / EMBEDDING, run.path(EMBEDDING)
    if kind != "oltr" or not source.is_file():
        target.unlink(missing_ok=True)
    elif not target.is_file() or sha256_file(source) != sha256_file(target):
        with atomic_path(target, overwrite=True) as temporary:
            shutil.copyfile(source, temporary)
