"""`alphafix neighbors`: class means -> nearest base classes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alphafix.alphanet.neighbors import nearest_neighbours, warn_of_few
from alphafix.commands.command import Watch
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import Words
from alphafix.features.store import FeatureStore
from alphafix.files import refuse_existing, write_files
from alphafix.metrics.samples import stored_doubts
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, HEAD, NEIGHBORS, Provenance, Run
from alphafix.shown import csv_text
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NeighborsResult:
    """Neighbours as they are in the run directory.

    Attributes:
        classes: The class table.
        neighbours: The neighbours.
        file: Where they are.
        csv: Where the table is as CSV, if that was asked for.
    """

    classes: ClassTable
    neighbours: Neighbours
    file: Path
    csv: Path | None = None

    def to_dict(self) -> list[dict[str, Any]]:
        """One record a few-split class, as JSON data."""
        return self.neighbours.records(self.classes)


def work(options: NeighborsOptions, watch: Watch) -> NeighborsResult:
    """Find and save the neighbours of a run's few-split classes.

    With ``options.features``, a run directory is made from the user's own arrays first.

    Raises:
        MissingStageError: If there are no features yet.
        InputError: If the features, the head and the class table do not fit together.
        TargetExistsError: If there are other neighbours already.
    """
    run = Run(options.run)
    if options.features or options.head is not None:
        from alphafix.commands.neighbors.start import start_from_arrays

        start_from_arrays(run, options, watch.progress)
    store = FeatureStore.open(run.features("train"))
    earlier = ClassTable.load(run.require(CLASSES))
    classes = earlier.with_thresholds(options.few_below, options.many_above)
    head = Head.load(run.require(HEAD))
    head.require_match(width=store.width, num_classes=store.num_classes)
    for doubt in stored_doubts(run, ("train", "val", "test")):
        logger.warning("%s", Words(doubt))
    changed = classes.thresholds != earlier.thresholds
    artifact = _artifact(run, options)
    if changed:
        refuse_existing(artifact.path, overwrite=options.overwrite)
    if not changed and artifact.check(overwrite=options.overwrite):
        logger.info("%s is up to date", artifact.path)
        found = Neighbours.load(artifact.path)
    else:
        warn_of_few(options.k)
        means = store.class_means()
        found = nearest_neighbours(
            means, classes, k=options.k, metric=options.metric, seed=options.seed
        )
        if changed:
            classes.save(run.path(CLASSES), overwrite=True)
        found = replace(found, provenance=dict(_artifact(run, options).plan))
        found.save(artifact.path, overwrite=options.overwrite)
    if options.csv is not None:
        text = table_csv(classes, found).encode()
        write_files({options.csv: text}, overwrite=options.overwrite)
    return NeighborsResult(classes, found, artifact.path, options.csv)


def state(options: NeighborsOptions) -> State:
    """Whether the neighbours are there as `work` would make them."""
    run = Run(options.run)
    if options.features or options.head is not None:
        from alphafix.commands.neighbors.start import start_state

        if (started := start_state(run, options)) is not State.CURRENT:
            return started
    if not run.has(NEIGHBORS):
        return State.MISSING
    classes = ClassTable.load(run.require(CLASSES))
    same = (
        classes.with_thresholds(options.few_below, options.many_above).thresholds
        == classes.thresholds
    )
    if not same:
        return State.OTHER
    found = _artifact(run, options).state
    lacking = options.csv is not None and not options.csv.exists()
    return State.UNFINISHED if found is State.CURRENT and lacking else found


def _artifact(run: Run, options: NeighborsOptions) -> Artifact:
    inputs = run.hashes(CLASSES, HEAD, run.manifest("train"))
    return run.artifact(NEIGHBORS, Provenance("neighbors", options.recorded(), inputs))


def table_csv(classes: ClassTable, found: Neighbours) -> str:
    """One line a few-split class and neighbour, nearest first."""
    rows: list[list[object]] = [
        ["class", "name", "train", "rank", "neighbor", "neighbor_name", "distance"]
    ]
    for record in found.records(classes):
        own = [record["class"], record["name"], record["train"]]
        for rank, near in enumerate(record["neighbors"], start=1):
            rows.append([*own, rank, near["class"], near["name"], f"{near['distance']:.6g}"])
    return csv_text(rows)
