"""One split: from its shards to a finished store, by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphafix.distributed import Ranks
from alphafix.errors import AlphafixError, TargetExistsError, option
from alphafix.features.extraction import Job, extract_shards
from alphafix.features.ledger import Ledger, Note
from alphafix.features.store import MANIFEST, FeatureStore
from alphafix.features.writer import nothing_to_store, write_manifest
from alphafix.files import write_text
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, Plan, difference, recorded_plan
from alphafix.shown import in_one_line

SKIPPED = "skipped.txt"

# What must be the same for all splits of a run: features of different models do not mix.
OF_THE_MODEL = (
    "backbone",
    "model_sha256",
    "weights_sha256",
    "section",
    "model_arg",
    "config_sha256",
    "head",
    "image_size",
    "crop_pct",
    "interpolation",
    "mean",
    "std",
    "exif_rotate",
    "precision",
    "decode",
)

# Seconds that a network file system may take to show what other machines wrote.
PATIENCE = 120


def extract_split(
    job: Job, ranks: Ranks, artifact: Artifact, info: Mapping[str, Any], progress: Progress
) -> FeatureStore:
    """Extract what is missing of a split, then write its statistics and its manifest.

    Args:
        job: This process's part.
        ranks: All processes.
        artifact: The store, begun.
        info: What else the manifest is to say.
        progress: Told of each batch.

    Raises:
        InputError: If the split has no usable image, or see `extract_shards`.
        AlphafixError: If a process wrote elsewhere.
    """
    ledger = Ledger(artifact.path.parent)
    if ranks.first and ledger.begun():
        ledger.keep({shard.name for shard in replace(job, rank=0, world=1).shards()})
    ranks.wait()
    size = job.dataset.source.known_size
    total = None if size is None else sum(s.key.stop - s.key.start for s in job.shards())
    with progress(f"extract {info['split']}", total) as advance:
        sums, count = extract_shards(job, ledger, advance)
    count = ranks.total(count)  # this waits for all of them, too
    ranks.add_up(sums.sums, sums.counts, sums.hits)
    if ranks.first:
        notes = _all_notes(ledger, count)
        shards = [note.shard for note in notes if note.shard is not None]
        if not shards:
            raise nothing_to_store(ledger.folder)
        skipped = [pair for note in notes for pair in note.skipped]
        write_text(
            ledger.folder / SKIPPED,
            "".join(f"{in_one_line(name)}\t{in_one_line(reason)}\n" for name, reason in skipped),
            overwrite=True,
        )
        write_manifest(
            ledger.folder,
            shards,
            sums,
            dtype=job.dtype,
            info={
                **info,
                "skipped": len(skipped),
                "cut": sum(note.cut for note in notes),
                "provenance": dict(artifact.plan),
            },
        )
        artifact.finish()
    ranks.wait()
    return FeatureStore.open(ledger.folder)


def _all_notes(ledger: Ledger, count: int) -> list[Note]:
    """The notes of all processes; a network file system may show them with a delay."""
    deadline = time.monotonic() + PATIENCE
    while len(notes := ledger.read()) != count:
        if time.monotonic() > deadline:
            raise AlphafixError(
                f"the shards of {ledger.folder} are not complete",
                got=f"{len(notes)} notes in {ledger.notes}",
                expected=f"{count}, one a shard",
                todo=f"all processes must write to the same folder: put {option('run')} on a file "
                "system that they share, and give the command again",
            )
        time.sleep(1)
    return notes


def of_the_model(plan: Plan) -> dict[str, Any]:
    """The part of a split's plan that all splits share."""
    options = plan.get("options") or {}
    return {name: options.get(name) for name in OF_THE_MODEL}


def require_one_model(root: Path, plans: Mapping[str, Plan]) -> None:
    """Refuse to mix features of different models.

    Args:
        root: Folder of the stores of all splits.
        plans: How those that are extracted now are made.

    Raises:
        TargetExistsError: If another split is there that was made with another model.
    """
    now = of_the_model(next(iter(plans.values())))
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        if path.parent.name in plans:
            continue
        other = of_the_model(recorded_plan(path))
        if other != now:
            raise TargetExistsError(
                f"{path.parent} was made with another model or transform",
                got=difference(other, now),
                expected="one model for all splits of a run",
                todo=f"extract all splits in one command with {option('overwrite', True)}, or "
                f"choose another {option('run')}",
            )
