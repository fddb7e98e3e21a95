"""One split: from its shards to a finished store, by any number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphafix.features.extraction import Job, extract_shards
from alphafix.features.ranks import Ranks
from alphafix.features.store import FeatureStore
from alphafix.features.writer import nothing_to_store, write_manifest
from alphafix.files import write_text
from alphafix.progress import Progress

SKIPPED = "skipped.txt"


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
    """
    size = job.dataset.source.known_size
    total = None if size is None else sum(s.key.stop - s.key.start for s in job.shards())
    with progress(f"extract {info['split']}", total) as advance:
        sums = extract_shards(job, advance)
    ranks.wait()  # the first process reads the notes of all others
    ranks.add_up(sums)
    if ranks.first:
        notes = job.ledger.read()
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
