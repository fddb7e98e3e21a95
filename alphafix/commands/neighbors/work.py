"""The stage `alphafix neighbors`: class means -> nearest base classes."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import replace
from pathlib import Path

from alphafix.alphanet.neighbors import nearest_neighbours, warn_of_few
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.features.store import FeatureStore
from alphafix.files import refuse_existing, write_text
from alphafix.progress import Progress, silent
from alphafix.run.artifact import State
from alphafix.run.directory import CLASSES, HEAD, NEIGHBORS, OTHER_RESULT, Provenance, Run
from alphafix.values.classes import ClassTable, Thresholds
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)


def find_neighbors(
    options: NeighborsOptions, *, progress: Progress = silent
) -> tuple[ClassTable, Neighbours]:
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

        start_from_arrays(run, options, progress=progress)
    store = FeatureStore.open(run.features("train"))
    classes = _with_thresholds(ClassTable.load(run.require(CLASSES)), options)
    head = Head.load(run.require(HEAD))
    head.require_match(width=store.width, num_classes=store.num_classes)
    found = _find(run, classes, store, options)
    if options.csv is not None:
        _write_csv(options.csv, table_csv(classes, found), overwrite=options.overwrite)
    return classes, found


def state(options: NeighborsOptions) -> State:
    """Whether the neighbours are there as `find_neighbors` would make them."""
    run = Run(options.run)
    if options.features or options.head is not None:
        from alphafix.commands.neighbors.start import started

        if not started(run, options):
            return State.OTHER if run.has(CLASSES) else State.MISSING
    if not run.has(NEIGHBORS):
        return State.MISSING
    classes = ClassTable.load(run.require(CLASSES))
    same = _with_thresholds(classes, options).thresholds == classes.thresholds
    current = same and run.is_current(NEIGHBORS, _provenance(run, options))
    return State.CURRENT if current else State.OTHER


def _write_csv(path: Path, text: str, *, overwrite: bool) -> None:
    same = path.is_file() and path.read_bytes() == text.encode()
    write_text(path, text, overwrite=overwrite or same)


def _with_thresholds(classes: ClassTable, options: NeighborsOptions) -> ClassTable:
    few = options.few_below if options.few_below is not None else classes.thresholds.few
    many = options.many_above if options.many_above is not None else classes.thresholds.many
    return replace(classes, thresholds=Thresholds(few=few, many=many))


def _find(
    run: Run, classes: ClassTable, store: FeatureStore, options: NeighborsOptions
) -> Neighbours:
    changed = classes.thresholds != ClassTable.load(run.path(CLASSES)).thresholds
    redo = changed or options.overwrite
    if not redo and run.is_current(NEIGHBORS, _provenance(run, options)):
        logger.info("%s is up to date", run.path(NEIGHBORS))
        return Neighbours.load(run.path(NEIGHBORS))
    refuse_existing(run.path(NEIGHBORS), overwrite=options.overwrite, todo=OTHER_RESULT)
    warn_of_few(options.k)
    found = nearest_neighbours(
        store.class_means(), classes, k=options.k, metric=options.metric, seed=options.seed
    )
    if changed:
        classes.save(run.path(CLASSES), overwrite=True)
    made = replace(found, provenance=_provenance(run, options).to_dict())
    made.save(run.path(NEIGHBORS), overwrite=options.overwrite)
    return made


def _provenance(run: Run, options: NeighborsOptions) -> Provenance:
    inputs = run.hashes(CLASSES, HEAD, run.manifest("train"))
    return Provenance(stage="neighbors", options=options.recorded(), inputs=inputs)


def table_csv(classes: ClassTable, found: Neighbours) -> str:
    """One line a few-split class and neighbour, nearest first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", "name", "train", "rank", "neighbor", "neighbor_name", "distance"])
    for record in found.records(classes):
        for rank, near in enumerate(record["neighbors"], start=1):
            own = [record["class"], record["name"], record["train"]]
            writer.writerow([*own, rank, near["class"], near["name"], f"{near['distance']:.6g}"])
    return out.getvalue()
