"""What `alphafix train-oltr` leaves for the report: a sample of embeddings and of the memory."""

from __future__ import annotations

from pathlib import Path

from alphafix.commands.train_oltr.evaluation import Evaluator
from alphafix.oltr.embedding import collect_embedding


def write_embedding(
    path: Path, evaluator: Evaluator, splits: tuple[str, ...], *, seed: int, model_sha256: str
) -> None:
    """Write a sample of the split test, or else val; nothing for a model without a memory.

    Args:
        path: The file, replaced or removed.
        evaluator: The model and the images.
        splits: Names of the splits that are there.
        seed: Of the sample.
        model_sha256: Hash of the model's file, kept with the sample.
    """
    split = next((name for name in ("test", "val") if name in splits), None)
    found = None
    if split is not None:
        found = collect_embedding(
            evaluator.model.body,
            evaluator.load(split),
            evaluator.classes,
            evaluator.running,
            split=split,
            seed=seed,
            info={"seed": seed, "model": model_sha256},
        )
    if found is None:
        path.unlink(missing_ok=True)
    else:
        found.save(path, overwrite=True)
