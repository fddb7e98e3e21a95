"""One split: from its shards to a finished store, by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphafix.distributed import Ranks
from alphafix.errors import AlphafixError, TargetExistsError, option
from alphafix.features.extraction import Job, extract_shards
from alphafix.features.ledger import Ledger, Note
from alphafix.features.parts import Part
from alphafix.features.store import MANIFEST, FeatureStore
from alphafix.features.sums import ClassSums
from alphafix.features.writer import nothing_to_store, write_manifest
from alphafix.files import write_text
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, Plan, difference, recorded_plan
from alphafix.shown import in_one_line
from alphafix.values.division import Division

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
    sums, notes = _extract(job, ranks, ledger, str(info["split"]), Division(), progress)
    if ranks.first:
        write_store_of(ledger.folder, notes, sums, artifact, info, job.dtype)
    ranks.wait()
    return FeatureStore.open(ledger.folder)


def extract_part(
    job: Job,
    ranks: Ranks,
    artifact: Artifact,
    info: Mapping[str, Any],
    division: Division,
    progress: Progress,
) -> None:
    """Extract what is missing of one job's part of a split, then say that it is whole.

    Args:
        job: This process's part of the part.
        ranks: All processes of the job.
        artifact: The part, begun.
        info: What else the manifest of the whole is to say.
        division: Which part it is.
        progress: Told of each batch.

    Raises:
        InputError: See `extract_split`; a part may be empty.
        AlphafixError: If a process wrote elsewhere.
    """
    ledger = Ledger(artifact.path.parent)
    _, notes = _extract(job, ranks, ledger, str(info["split"]), division, progress)
    if ranks.first:
        part = Part(
            folder=ledger.folder,
            division=division,
            groups=job.dataset.source.groups,
            width=job.width,
            num_classes=job.num_classes,
            dtype=job.dtype,
            notes=tuple(notes),
            info=info,
            plan=artifact.plan,
        )
        part.save()
        artifact.finish()
    ranks.wait()


def _extract(
    job: Job,
    ranks: Ranks,
    ledger: Ledger,
    split: str,
    division: Division,
    progress: Progress,
) -> tuple[ClassSums, list[Note]]:
    """Sums and notes of all processes of a job, the notes in the first of them only."""
    if ranks.first and ledger.begun():
        whole = replace(job, rank=division.index, world=division.count)
        ledger.keep({shard.name for shard in whole.shards()})
    ranks.wait()
    size = job.dataset.source.known_size
    total = None if size is None else sum(s.key.stop - s.key.start for s in job.shards())
    with progress(f"extract {split}", total) as advance:
        sums, count = extract_shards(job, ledger, advance)
    count = ranks.total(count)  # this waits for all of them, too
    ranks.add_up(sums.sums, sums.counts, sums.hits)
    return sums, _all_notes(ledger, count) if ranks.first else []


def write_store_of(
    folder: Path,
    notes: Sequence[Note],
    sums: ClassSums,
    artifact: Artifact,
    info: Mapping[str, Any],
    dtype: str,
) -> None:
    """Write what makes a store of shards that are in place: its statistics and its manifest.

    Args:
        folder: Folder of the store.
        notes: What became of each shard's samples, in order.
        sums: Class sums over them.
        artifact: The store, begun.
        info: What else the manifest is to say.
        dtype: Stored element type.

    Raises:
        InputError: If there is no sample.
    """
    shards = [note.shard for note in notes if note.shard is not None]
    if not shards:
        raise nothing_to_store(folder)
    skipped = [pair for note in notes for pair in note.skipped]
    write_text(
        folder / SKIPPED,
        "".join(f"{in_one_line(name)}\t{in_one_line(reason)}\n" for name, reason in skipped),
        overwrite=True,
    )
    write_manifest(
        folder,
        shards,
        sums,
        dtype=dtype,
        info={
            **info,
            "skipped": len(skipped),
            "cut": sum(note.cut for note in notes),
            "provenance": dict(artifact.plan),
        },
    )
    artifact.finish()


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
