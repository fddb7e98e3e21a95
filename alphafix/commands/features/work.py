"""`alphafix features import` and `export`: stores from and to other tools' files; `merge`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.features.merge import merge_state, merge_work
from alphafix.commands.features.options import ExportOptions, ImportOptions
from alphafix.commands.records import record_of
from alphafix.features.class_names import require_names
from alphafix.features.exchange import read_features
from alphafix.features.export import exported_files, write_features
from alphafix.features.store import FeatureStore, store_artifact
from alphafix.features.writer import write_store
from alphafix.files import sha256_file
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.labels import class_counts

__all__ = ["export_work", "import_state", "import_work", "merge_state", "merge_work"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeaturesResult:
    """Features that were taken from a file, or given to one."""

    store: FeatureStore
    split: str
    file: Path

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        store = self.store
        return {"split": self.split, "samples": len(store), "width": store.width}


def export_work(options: ExportOptions, watch: Watch) -> FeaturesResult:
    """Write the features of a split, and the class names, to a file of another tool.

    Raises:
        MissingStageError: If there are no features of the split.
        TargetExistsError: If the file, or one that goes with it, exists and may not be replaced.
        InputError: If the file's suffix is of no known format.
    """
    run = Run(options.run)
    store = FeatureStore.open(run.features(options.split), verify=options.verify)
    manifest = run.manifest(options.split)
    what = run.place_of(options.file)
    classes = ClassTable.load(run.require(CLASSES))
    inputs = (CLASSES, manifest)
    record = record_of(run, "features export", options, *inputs, what=what, of=options.file)
    if record.check(overwrite=options.overwrite, where="file"):
        logger.info("%s is up to date", options.file)
    else:
        files = exported_files(options.file)
        with (
            record.writing(files, overwrite=options.overwrite) as drafts,
            watch.progress(f"export {options.split}", len(store)) as advance,
        ):
            write_features(drafts, options.file.suffix, store, classes.names, advance=advance)
    return FeaturesResult(store, options.split, options.file)


def import_work(options: ImportOptions, watch: Watch) -> FeaturesResult:
    """Make a split's store from a file of another tool; the run has its head already.

    Training features set the class counts in classes.json.

    Raises:
        MissingStageError: If the run has no head or no classes yet.
        InputError: If the features do not fit the head, or are of other classes.
        TargetExistsError: If the split is there, made otherwise, and may not be replaced.
    """
    run = Run(options.run)
    head, classes = Head.load(run.require(HEAD)), ClassTable.load(run.require(CLASSES))
    arrays = read_features(options.file, split=options.split)
    head.require_match(width=arrays.width, num_classes=len(classes))
    require_names(options.file, classes.names)
    artifact = _artifact(run, options)
    if artifact.check(overwrite=options.overwrite):
        logger.info("%s is up to date", artifact.path.parent)
    else:
        write_store(
            artifact,
            arrays,
            split=options.split,
            head=head,
            dtype=options.store_dtype,
            progress=watch.progress,
        )
    if options.split == "train":
        counts = class_counts(arrays.labels, len(classes))
        if not np.array_equal(counts, classes.counts):  # a killed command has not come to that
            replace(classes, counts=counts).save(run.path(CLASSES), overwrite=True)
    return _imported(run, options)


def import_state(options: ImportOptions) -> State:
    """Whether the features are there as `import_work` would make them."""
    run = Run(options.run)
    found = _artifact(run, options).state
    if found is not State.CURRENT or options.split != "train":
        return found
    classes = ClassTable.load(run.require(CLASSES))
    counts = class_counts(FeatureStore.open(run.features("train")).labels, len(classes))
    return found if np.array_equal(counts, classes.counts) else State.MISSING


def _imported(run: Run, options: ImportOptions) -> FeaturesResult:
    store = FeatureStore.open(run.features(options.split))
    return FeaturesResult(store, options.split, run.path(run.manifest(options.split)))


def _artifact(run: Run, options: ImportOptions) -> Artifact:
    recorded = {
        "file": options.file.name,
        "file_sha256": sha256_file(options.file),
        "split": options.split,
        "store_dtype": options.store_dtype,
    }
    plan = Provenance(stage="features import", options=recorded, inputs={})
    return store_artifact(run.features(options.split), plan.to_dict())
