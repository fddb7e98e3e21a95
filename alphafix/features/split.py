"""One split: from its shards to a finished store, by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from alphafix.distributed import Ranks
from alphafix.errors import AlphafixError
from alphafix.features.extraction import Job, extract_shards
from alphafix.features.ledger import Ledger, Note
from alphafix.features.store import FeatureStore
from alphafix.features.writer import nothing_to_store, write_manifest
from alphafix.files import write_text
from alphafix.progress import Progress

SKIPPED = "skipped.txt"

# Seconds that a network file system may take to show what other machines wrote.
PATIENCE = 120


def extract_split(
    job: Job, ranks: Ranks, plan: Mapping[str, Any], info: Mapping[str, Any], progress: Progress
) -> FeatureStore:
    """Extract what is missing of a split, then write its statistics and its manifest.

    Args:
        job: This process's part.
        ranks: All processes.
        plan: How the features are made: the provenance that the manifest carries.
        info: What else the manifest is to say.
        progress: Told of each batch.

    Raises:
        InputError: If the split has no usable image, or see `extract_shards`.
        AlphafixError: If a process wrote elsewhere.
    """
    size = job.dataset.source.known_size
    total = None if size is None else sum(s.key.stop - s.key.start for s in job.shards())
    with progress(f"extract {info['split']}", total) as advance:
        sums, count = extract_shards(job, advance)
    count = ranks.total(count)  # this waits for all of them, too
    ranks.add_up(sums.sums, sums.counts)
    if ranks.first:
        notes = _all_notes(job.ledger, count)
        shards = [note.shard for note in notes if note.shard is not None]
        if not shards:
            raise nothing_to_store(job.ledger.folder)
        skipped = [pair for note in notes for pair in note.skipped]
        write_text(
            job.ledger.folder / SKIPPED,
            "".join(f"{name}\t{reason}\n" for name, reason in skipped),
            overwrite=True,
        )
        write_manifest(
            job.ledger.folder,
            shards,
            sums,
            dtype=job.dtype,
            info={**info, "skipped": len(skipped), "provenance": dict(plan)},
        )
        job.ledger.clear()
    ranks.wait()
    return FeatureStore.open(job.ledger.folder)


def _all_notes(ledger: Ledger, count: int) -> list[Note]:
    """The notes of all processes; a network file system may show them with a delay."""
    deadline = time.monotonic() + PATIENCE
    while len(notes := ledger.read()) != count:
        if time.monotonic() > deadline:
            raise AlphafixError(
                f"the shards of {ledger.folder} are not complete",
                got=f"{len(notes)} notes in {ledger.notes}",
                expected=f"{count}, one a shard",
                todo="all processes must write to the same folder: put --run on a file system "
                "that they share, and give the command again",
            )
        time.sleep(1)
    return notes
