"""`alphafix extract --shard-index I --shard-count N`: one job's part, in a folder of its own."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
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
from alphafix.distributed import Ranks, alike, join
from alphafix.errors import InputError, TargetExistsError, option
from alphafix.features.elsewhere import empty, publish, require_place, retrieve
from alphafix.features.parts import PART, Part
from alphafix.features.split import extract_part
from alphafix.files import remove_temporary
from alphafix.images.splits import SplitSources
from alphafix.oltr.training.embedding import EMBEDDING
from alphafix.remote import (
    address_of,
    as_given,
    is_address,
    make_room,
    passing_folder,
    require_writable,
)
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
        with alike():
            images = open_images(options, _known(_place(options)[1], options))
        with join() as ranks:
            return _extract(options, watch, ranks, images)
    several = os.environ.get("LOCAL_WORLD_SIZE", "1") != os.environ.get("WORLD_SIZE", "1")
    if several and options.shard_count is not None:
        raise InputError(
            "the processes of one part are on several machines",
            got=f"{option('run')} at an address, which they do not share",
            expected="one machine for each part",
            todo=f"leave {option('shard_index')} and {option('shard_count')} out, so that each "
            "machine makes a part, or give a folder that all share",
        )
    with alike():  # before hours of work
        require_place(_address(options))
    with join(of_machine=True) as ranks:
        found = ranks.of_first(_there(options) if ranks.first else None)
        return found or _publish(options, watch, ranks)


def _there(options: ExtractOptions) -> PartResult | None:
    """What is at the address already, if it is as asked; no file of features is read for that.

    Raises:
        TargetExistsError: If it was made otherwise.
    """
    if options.overwrite or options.check is not None:
        return None
    with _told_of(options) as here:
        if here is None:
            return None
        division, run = _place(here)
        stores = _stores(run, here)
        if _state_of(run, stores) is not State.CURRENT:
            for store in _known_as(_address(options), stores):
                store.check(overwrite=False)
            return None
        parts = {split: Part.read(run.features(split)) for split in stores}
        found = _result(division, run, here, parts)
    logger.info("%s is up to date", _address(options))
    return replace(found, folder=Path(_address(options)), run=options.run)


def _publish(options: ExtractOptions, watch: Watch, ranks: Ranks) -> PartResult:
    """Extract a part on this machine, and write it to its address."""
    address = _address(options)
    here = _at(options, options.here)
    folder = _place(here)[1].folder
    if ranks.first:
        require_writable(address)
        options.here.mkdir(parents=True, exist_ok=True)
        os.utime(options.here)  # it was used now, says this to others that make room
        make_room(0, options.here)
    earlier = ranks.of_first(
        _earlier(address, folder, overwrite=options.overwrite) if ranks.first else ""
    )
    known_as = address if earlier else f"an unfinished part of {address} in {options.here}"
    made = False
    try:
        images = open_images(here, _known(_place(here)[1], here))
        found = _extract(here, watch, ranks, images, known_as=known_as, address=address)
        made = True
        if ranks.first:
            names = (str(HEAD), str(CLASSES), EMBEDDING)
            publish(folder, names, address, earlier, overwrite=options.overwrite)
    except TargetExistsError:
        if ranks.first and (made or earlier):
            empty(options.here)  # what is at the address is the part; of no use to any later job
        raise
    if ranks.first:
        empty(options.here)
    return replace(found, folder=Path(address), run=options.run)


def _earlier(address: str, folder: Path, *, overwrite: bool) -> str:
    """Bring what is at the address already; of what is damaged nothing, if it may be replaced."""
    try:
        return retrieve(address, folder)
    except InputError as error:
        if not overwrite:
            raise
        logger.warning("the part at %s is made anew: %s", address, error.brief)
        empty(folder)
        return ""


def _at(options: ExtractOptions, run: Path) -> ExtractOptions:
    """The same part in a folder of this machine."""
    division = _division(options)
    update = {"run": run, "shard_index": division.index, "shard_count": division.count}
    return options.model_copy(update=update)


@contextlib.contextmanager
def _told_of(options: ExtractOptions) -> Iterator[ExtractOptions | None]:
    """The same part in a folder that has of it all but the features; None where there is none."""
    with passing_folder() as place:
        here = _at(options, place)
        there = retrieve(_address(options), _place(here)[1].folder, features=False)
        yield here if there else None


def _address(options: ExtractOptions) -> str:
    """The address of a part."""
    return f"{address_of(options.run).rstrip('/')}/{PARTS}/{_division(options).folder}"


def _extract(
    options: ExtractOptions,
    watch: Watch,
    ranks: Ranks,
    images: SplitSources,
    *,
    known_as: str | None = None,
    address: str | None = None,
) -> PartResult:
    """Extract one job's part of all splits, with the head and the classes, for `features merge`.

    The jobs need nothing of one another: each takes every N-th shard (of archives every N-th
    archive), and what an interrupted one left is used. Under `torchrun` the processes of a job
    share its part.

    Args:
        options: The part's options.
        watch: Who is told.
        ranks: The processes of the job.
        images: Their images.
        known_as: What a person knows the part by that is there already, if not by its folder.
        address: Where the part goes from its folder, if it does.

    Raises:
        InputError: If the model, its weights or the data cannot be used, or do not fit.
        TargetExistsError: If the part is there, made otherwise.
    """
    division, run = _place(options)
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
    for store in _known_as(known_as, todo):
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
        logger.info("%s is up to date", address or run.folder)
    if ranks.first:
        _finish(run, stores.values(), images, options, anew=CLASSES in broken)
    ranks.wait()
    parts = {split: Part.open(run.features(split)) for split in stores}
    return _result(division, run, options, parts)


def part_state(options: ExtractOptions) -> State:
    """Whether the part is there as `part_work` would make it."""
    if not is_address(options.run):
        return _state(options)
    with _told_of(options) as here:
        return State.MISSING if here is None else _state(here)


def _state(options: ExtractOptions) -> State:
    """The same of a part in a folder."""
    _, run = _place(options)
    return _state_of(run, _stores(run, options))


def _stores(run: Run, options: ExtractOptions) -> dict[str, Artifact]:
    """The part's store of each split, as it would be made now."""
    setting = Placement.choose(options.device, options.precision)
    images = open_images(options, _known(run, options))
    return stores_of(run, options, images, setting, Ranks(), last=PART)


def _state_of(run: Run, stores: Mapping[str, Artifact]) -> State:
    """The state of a part with these stores."""
    found = {store.state for store in stores.values()}
    if found == {State.CURRENT} and run.has(HEAD):
        return State.CURRENT
    return State.OTHER if State.OTHER in found else State.MISSING


def _known_as(name: str | None, stores: Mapping[str, Artifact]) -> list[Artifact]:
    """The stores, which a person knows by another name than their files."""
    return [replace(store, of=name) for store in stores.values()]


def _division(options: ExtractOptions) -> Division:
    """Which part it is."""
    return options.division or Division()


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
            logger.warning("%s is damaged, and made anew: %s", path, error.brief)
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
    division: Division, run: Run, options: ExtractOptions, parts: Mapping[str, Part]
) -> PartResult:
    return PartResult(
        division=division,
        folder=run.folder,
        samples={split: part.samples for split, part in parts.items()},
        skipped={split: part.skipped for split, part in parts.items()},
        shards={split: len(part.notes) for split, part in parts.items()},
        run=options.run,
    )
