"""`alphafix extract --shard-index I --shard-count N`: one job's part, in a folder of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.preparation import (
    check_model,
    class_table,
    job_of,
    keep_embedding,
    known_classes,
    load,
    open_images,
    save_head,
    save_table,
    stores_of,
)
from alphafix.devices import Placement
from alphafix.distributed import Ranks, join
from alphafix.errors import InputError, option
from alphafix.features.elsewhere import empty, publish, retrieve
from alphafix.features.parts import PART, Part
from alphafix.features.split import extract_part
from alphafix.files import remove_temporary
from alphafix.images.splits import SplitSources
from alphafix.oltr.training.embedding import EMBEDDING
from alphafix.remote import address_of, as_given, is_address, require_store
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, HEAD, PARTS, Run
from alphafix.values.classes import ClassTable
from alphafix.values.division import Division
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartResult:
    """What a job of a job array has extracted.

    Attributes:
        division: Which part it is.
        folder: Where it is.
        samples: Number of stored samples of each split.
        skipped: Number of images that were left out, of each.
        shards: Number of files of each.
        run: The run directory that the parts are to be merged into.
    """

    division: Division
    folder: Path
    samples: dict[str, int]
    skipped: dict[str, int]
    shards: dict[str, int]
    run: Path

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "shard_index": self.division.index,
            "shard_count": self.division.count,
            "folder": as_given(self.folder),
            "samples": self.samples,
            "skipped": self.skipped,
            "shards": self.shards,
        }


def part_work(options: ExtractOptions, watch: Watch) -> PartResult:
    """Extract one job's part into the run directory, be that a folder or at an address.

    What is at an address is made on this machine, from what is there already, and written when it
    is whole (see `alphafix.features.elsewhere`).

    Raises:
        InputError: See `_extract`; or if the address cannot be read or written.
        TargetExistsError: See `_extract`; or if another job has written the part meanwhile.
    """
    if not is_address(options.run):
        return _extract(options, watch)
    if os.environ.get("LOCAL_WORLD_SIZE", "1") != os.environ.get("WORLD_SIZE", "1"):
        raise InputError(
            "the processes of one part are on several machines",
            got=f"{option('run')} at an address, which they do not share",
            expected="one machine for each part",
            todo="start a job for each machine, with its own "
            f"{option('shard_index')}, or give a folder that all share",
        )
    address = _address(options)
    require_store(address)  # before hours of work
    folder = options.here / PARTS / _division(options).folder
    here = options.model_copy(update={"run": options.here})
    first = os.environ.get("RANK", "0") == "0"
    earlier = retrieve(address, folder) if first else ""
    found = _extract(here, watch)
    if first:
        names = (str(HEAD), str(CLASSES), EMBEDDING)
        publish(folder, names, address, earlier, overwrite=options.overwrite)
        empty(folder)
    return replace(found, folder=Path(address), run=options.run)


def _address(options: ExtractOptions) -> str:
    """The address of a part."""
    return f"{address_of(options.run).rstrip('/')}/{PARTS}/{_division(options).folder}"


def _extract(options: ExtractOptions, watch: Watch) -> PartResult:
    """Extract one job's part of all splits, with the head and the classes, for `features merge`.

    The jobs need nothing of one another: each takes every N-th shard (of archives every N-th
    archive), and what an interrupted one left is used. Under `torchrun` the processes of a job
    share its part.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
        TargetExistsError: If the part is there, made otherwise.
    """
    division, run = _place(options)
    with join() as ranks:
        images = open_images(options, _known(run, options))
        images.warn()
        setting = Placement.choose(options.device, options.precision, local_rank=ranks.local_rank)
        broken = ranks.of_first(_damaged(run, images.sources) if options.overwrite else ())
        # What is broken is not read for how its plan was spelt.
        stores = stores_of(run, options, images, setting, ranks, frozenset(broken), PART)
        todo = {
            split: store
            for split, store in stores.items()
            if split in broken or store.state is not State.CURRENT
        }
        needed = bool(todo) or HEAD in broken or not run.has(HEAD)
        for store in todo.values():
            store.check(overwrite=options.overwrite)
        if needed or options.check is not None:
            extractor, images = load(options, images, next(iter(todo or stores)), setting)
            checked = check_model(options, images, extractor, watch.progress)
        ranks.wait()  # nobody writes before everybody has checked
        if needed:
            if ranks.first:
                plan = next(iter(stores.values())).plan
                save_head(run, extractor.head, plan, options, anew=HEAD in broken)
                for store in todo.values():
                    store.begin()
            ranks.wait()
            for split, store in todo.items():
                source = images.sources[split]
                job, info = job_of(options, split, source, extractor, ranks, division)
                info |= {"labels": images.record(split), "check": checked}
                info |= {"backbone_sha256": extractor.backbone_sha256 if ranks.first else None}
                extract_part(job, ranks, store, info, division, watch.progress)
        else:
            logger.info("%s is up to date", run.folder)
        if ranks.first:
            _finish(run, stores.values(), images, options, anew=CLASSES in broken)
        ranks.wait()
        return _result(division, run, options, tuple(stores))


def part_state(options: ExtractOptions) -> State:
    """Whether the part is there as `part_work` would make it."""
    if is_address(options.run):
        retrieve(_address(options), options.here / PARTS / _division(options).folder)
        options = options.model_copy(update={"run": options.here})
    _, run = _place(options)
    setting = Placement.choose(options.device, options.precision)
    images = open_images(options, _known(run, options))
    stores = stores_of(run, options, images, setting, Ranks(), last=PART)
    found = {store.state for store in stores.values()}
    if found == {State.CURRENT}:
        return State.CURRENT if run.has(HEAD) else State.MISSING
    return State.OTHER if State.OTHER in found else State.MISSING


def _division(options: ExtractOptions) -> Division:
    """Which part it is."""
    return Division(options.shard_index or 0, options.shard_count or 1)


def _place(options: ExtractOptions) -> tuple[Division, Run]:
    """Which part it is, and its folder, which is like a run directory."""
    division = _division(options)
    return division, Run(options.run / PARTS / division.folder)


def _known(run: Run, options: ExtractOptions) -> Any:
    """What is known of the classes: by the part itself, or by the run directory."""
    return known_classes(run if run.has(CLASSES) else Run(options.run), options)


def _damaged(run: Run, splits: Iterable[str]) -> tuple[str, ...]:
    """What is damaged, and made anew."""
    there: Mapping[str, Any] = {
        HEAD: (run.path(HEAD), lambda: Head.load(run.path(HEAD))),
        CLASSES: (run.path(CLASSES), lambda: ClassTable.load(run.path(CLASSES))),
        **{
            split: (run.features(split) / PART, lambda s=split: Part.open(run.features(s)).verify())
            for split in splits
        },
    }
    found = []
    for name, (path, read) in there.items():
        try:
            if path.is_file():
                read()
        except InputError as error:
            logger.warning("%s is damaged, and made anew: %s", path, error.args[0])
            found.append(str(name))
    return tuple(found)


def _finish(
    run: Run,
    stores: Iterable[Artifact],
    images: SplitSources,
    options: ExtractOptions,
    *,
    anew: bool,
) -> None:
    """Remove what a kill at the very end left, and write the classes, which merging counts."""
    for name in (HEAD, CLASSES):
        remove_temporary(run.folder, name)
    for store in stores:
        store.finish()
        remove_temporary(store.path.parent)
    there = [place for place in (run, Run(options.run)) if place.has(CLASSES)]
    earlier = ClassTable.load(there[0].path(CLASSES)) if there and not anew else None
    counts = np.zeros(Head.load(run.path(HEAD)).num_classes, dtype=np.int64)
    table = class_table(images, options, counts, earlier)
    save_table(run, table, earlier if run.has(CLASSES) else None)
    keep_embedding(run, options.backbone)


def _result(
    division: Division, run: Run, options: ExtractOptions, splits: tuple[str, ...]
) -> PartResult:
    parts = {split: Part.open(run.features(split)) for split in splits}
    return PartResult(
        division=division,
        folder=run.folder,
        samples={split: part.samples for split, part in parts.items()},
        skipped={split: part.skipped for split, part in parts.items()},
        shards={split: len(part.notes) for split, part in parts.items()},
        run=options.run,
    )
