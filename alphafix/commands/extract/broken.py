"""What a run holds and cannot be read any more: `extract --overwrite` makes it anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from alphafix.errors import InputError
from alphafix.features.store import MANIFEST, FeatureStore
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


def broken_results(run: Run, splits: Iterable[str]) -> frozenset[str]:
    """Names of the results that are there and damaged: `HEAD`, `CLASSES`, splits of features.

    Shards are compared with their hashes, but for those that have not changed since they were.
    """
    there: dict[str, tuple[Path, Callable[[Path], object]]] = {
        HEAD: (run.path(HEAD), Head.load),
        CLASSES: (run.path(CLASSES), ClassTable.load),
        **{split: (run.features(split) / MANIFEST, _read) for split in splits},
    }
    found = set()
    for name, (path, read) in there.items():
        try:
            if path.is_file():
                read(path)
        except InputError as error:
            logger.warning("%s is damaged, and made anew: %s", path, error.brief)
            found.add(name)
    return frozenset(found)


def _read(manifest: Path) -> None:
    store = FeatureStore.open(manifest.parent)
    store.class_means()
    store.require_whole()
