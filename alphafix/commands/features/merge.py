"""`alphafix features merge`: the parts of a job array -> the features of a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.features.options import MergeOptions
from alphafix.commands.repeating import completed_by_part
from alphafix.errors import AlphafixError, InputError, TargetExistsError, call, option
from alphafix.features.elsewhere import noted_address, parts_at, retrieve
from alphafix.features.merging import (
    making,
    merge,
    parts_by_split,
    refuse_whole,
    require_all,
)
from alphafix.features.parts import Part
from alphafix.features.split import require_one_model
from alphafix.features.store import FeatureStore, store_artifact
from alphafix.files import atomic_path, remove_temporary, sha256_file
from alphafix.locks import all_locked
from alphafix.oltr.training.embedding import EMBEDDING
from alphafix.remote import address_of, as_given, is_address, name_of, passing_folder
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, FEATURES, HEAD, PARTS, Run
from alphafix.shown import without_secrets
from alphafix.values.classes import ClassTable
from alphafix.values.division import Division
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MergeResult:
    """What a run holds after its parts were merged.

    Attributes:
        stores: The features of each split.
        classes: The class table.
        parts: Number of parts.
    """

    stores: dict[str, FeatureStore]
    classes: ClassTable
    parts: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "parts": self.parts,
            "classes": len(self.classes),
            "samples": {split: len(store) for split, store in self.stores.items()},
            "skipped": {split: int(s.info["skipped"]) for split, s in self.stores.items()},
            "shards": {split: len(store.shards) for split, store in self.stores.items()},
        }


def merge_work(options: MergeOptions, watch: Watch) -> MergeResult:
    """Make the run's features, head and classes of the parts of a job array.

    All is checked before anything is written: that each part is there once, finished, and made as
    the others were. The parts stay; where the file system allows it their files are shared.

    Raises:
        InputError: If a part is missing, doubled, unfinished or made otherwise.
        TargetExistsError: If the run holds features that were made otherwise.
    """
    run = Run(options.run)
    folders = _folders(options)
    with all_locked(folders, wait=options.wait, say=watch.say), _by_address(folders):
        parts = parts_by_split(folders)
        _require_same(HEAD, [folder / HEAD for folder in folders])
        tables = _tables(folders)
        stores = _stores(run, parts)
        todo = {
            split: store
            for split, store in stores.items()
            if not store.check(overwrite=options.overwrite)
        }
        require_one_model(run.path(FEATURES), {s: store.plan for s, store in stores.items()})
        if todo or not run.has(HEAD):
            _require_head(run, folders[0] / HEAD, overwrite=options.overwrite)
            _take(folders[0] / HEAD, run.path(HEAD))
        head = Head.load(run.path(HEAD))
        for split in todo:
            merge(parts[split], stores[split], head, split, watch.progress)
        if not todo:
            logger.info("%s is up to date", run.folder)
        for name in (HEAD, CLASSES):
            remove_temporary(run.folder, name)
        classes = _save_classes(run, tables)
        if (folders[0] / EMBEDDING).is_file():
            _take(folders[0] / EMBEDDING, run.path(EMBEDDING))
        else:
            run.path(EMBEDDING).unlink(missing_ok=True)
    found = {split: FeatureStore.open(run.features(split)) for split in parts}
    return MergeResult(found, classes, len(folders))


def merge_state(options: MergeOptions) -> State:
    """Whether the features are there as `merge_work` would make them."""
    run = Run(options.run)
    with _told_of(options) as folders, _by_address(folders):
        stores = _stores(run, parts_by_split(folders, shards=False))
    found = {store.state for store in stores.values()}
    if found == {State.CURRENT}:
        return State.CURRENT if run.has(HEAD) and run.has(CLASSES) else State.MISSING
    return State.OTHER if State.OTHER in found else State.MISSING


def _folders(options: MergeOptions) -> list[Path]:
    """The folders of the parts; what is at addresses is brought into the run directory.

    Raises:
        InputError: If there is none, or one is not there.
    """
    return _there(options, [_here(options, p) if isinstance(p, str) else p for p in _all(options)])


@contextlib.contextmanager
def _told_of(options: MergeOptions) -> Iterator[list[Path]]:
    """The same for the time of the block; of what is at addresses all but the features is here."""
    with passing_folder() as passing:
        folders = []
        for number, place in enumerate(_all(options)):
            if isinstance(place, str):
                folders.append(passing / str(number))
                retrieve(place, folders[-1], features=False)
            else:
                folders.append(place)
        yield _there(options, folders)


@contextlib.contextmanager
def _by_address(folders: Sequence[Path]) -> Iterator[None]:
    """Errors name what was fetched by the address that it is from, and the parts' own commands."""
    try:
        yield
    except AlphafixError as error:
        _complete(error, folders)
        known = {str(folder): noted_address(folder) for folder in folders}
        error.rename({path: address for path, address in known.items() if address is not None})
        raise


def _complete(error: AlphafixError, folders: Sequence[Path]) -> None:
    """Complete the commands that make parts by the first part that says how it was made."""
    for folder in folders:
        place = noted_address(folder) or str(folder)
        above, _, name = place.rpartition(f"/{PARTS}/")
        known = completed_by_part(folder, Path(above) if above and "/" not in name else None)
        if known is not None:
            error.complete(known)
            return


def _all(options: MergeOptions) -> list[Path | str]:
    """The folders or addresses of the parts that are named.

    Raises:
        InputError: If there is none at an address, or one is there twice.
    """
    places = [one for place in options.parts for one in _listed(place)]
    if any(isinstance(place, str) for place in places):
        _require_names(places)
    return places


def _there(options: MergeOptions, parts: Sequence[Path]) -> list[Path]:
    """The folders of the named parts, or of all that the run directory has.

    Raises:
        InputError: If there is none, or one is not there.
    """
    given = list(parts) or sorted((options.run / PARTS).glob("*-of-*/"))
    if not given:
        refuse_whole(options.run)
        raise InputError(
            f"there are no parts in {options.run / PARTS}",
            expected="a folder for each job of the array",
            todo=f"run {call('extract', shard_index='I', shard_count='N')} for each part first, "
            f"or name the folders, or the right {option('run')}",
        )
    gone = [folder for folder in given if not folder.is_dir()]
    if gone:
        raise InputError(
            f"the part {gone[0]} is not there", expected="a folder that extract has made"
        )
    return given


def _listed(place: Path) -> Sequence[Path | str]:
    """The folder of a part, or those in a run directory; addresses where it is at one."""
    if not is_address(place):
        return sorted((place / PARTS).glob("*-of-*/")) or [place]
    return parts_at(address_of(place).rstrip("/"))


def _require_names(places: Sequence[Path | str]) -> None:
    """Check by the names of parts, if they have such, that all are there, before any is fetched.

    Raises:
        InputError: If one is missing or there twice, or they are of several divisions.
    """
    named = [(Division.of(name_of(place)), place) for place in map(as_given, places)]
    parts = [(division, place) for division, place in named if division is not None]
    if len(parts) < len(places):
        return
    try:
        require_all("the run", parts)
    except InputError as error:
        _complete_from(error, places[0])
        raise


def _complete_from(error: AlphafixError, place: Path | str) -> None:
    """Complete the commands that make parts by what one says of itself, without its features."""
    with passing_folder() as passing:
        folder = passing / "part" if isinstance(place, str) else place
        if isinstance(place, str):
            try:
                retrieve(place, folder, features=False)
            except AlphafixError:  # which is not what was asked
                return
        _complete(error, [folder])


def _here(options: MergeOptions, address: str) -> Path:
    """The folder of a part at an address, which is brought into the run directory.

    Raises:
        InputError: If it cannot be read.
        TargetExistsError: If the run directory has such a part from elsewhere.
    """
    folder = options.run / PARTS / name_of(address)
    origin = noted_address(folder)
    if origin != without_secrets(address) and folder.is_dir() and any(folder.iterdir()):
        raise TargetExistsError(
            f"{folder} is there already, from elsewhere",
            got="a part that was made there" if origin is None else origin,
            expected=f"no such part, or that of {address}",
            todo=f"remove it if it is not needed, or give another {option('run')}",
        )
    logger.info("fetching %s", without_secrets(address))
    retrieve(address, folder, again=True)
    return folder


def _stores(run: Run, parts: dict[str, list[Part]]) -> dict[str, Artifact]:
    return {s: store_artifact(run.features(s), own[0].plan) for s, own in parts.items()}


def _require_same(name: str, files: Sequence[Path]) -> None:
    """Check that the parts have the same of a file, byte by byte."""
    gone = [file for file in files if not file.is_file()]
    if gone:
        raise InputError(
            f"{gone[0]} is not there",
            expected=f"{name} in each part",
            todo=f"run {making(gone[0].parent)} again",
        )
    hashes = [sha256_file(file) for file in files]
    for file, found in zip(files, hashes, strict=True):
        if found != hashes[0]:
            raise InputError(
                f"the parts have different {name}",
                got=f"{file} {found[:12]}, {files[0]} {hashes[0][:12]}",
                expected="one model for all parts",
                todo=f"run {making(file.parent, overwrite=True)}, if this part is the wrong one",
            )


def _tables(folders: Sequence[Path]) -> ClassTable:
    """The class table of all parts, whose training samples are not counted yet."""
    _require_same(CLASSES, [folder / CLASSES for folder in folders])
    return ClassTable.load(folders[0] / CLASSES)


def _require_head(run: Run, head: Path, *, overwrite: bool) -> None:
    """Check that no head of another model is there, or that it may be replaced."""
    there = run.path(HEAD)
    if overwrite or not there.is_file() or sha256_file(there) == sha256_file(head):
        return
    raise TargetExistsError(
        f"{there} is another head than that of the parts",
        got=sha256_file(there)[:12],
        expected=f"{sha256_file(head)[:12]}, or no head yet",
        todo=f"give {option('overwrite', True)} to replace it, or {option('run')} for another "
        "place",
    )


def _take(source: Path, target: Path) -> None:
    """Copy a small file, with its permissions, unless it is there."""
    if target.is_file() and sha256_file(source) == sha256_file(target):
        return
    with atomic_path(target, overwrite=True, like=source) as draft:
        draft.write_bytes(source.read_bytes())


def _save_classes(run: Run, table: ClassTable) -> ClassTable:
    """Write classes.json with the counts of the training features, if anything of it changed."""
    if run.has(run.manifest("train")):
        counts = FeatureStore.open(run.features("train")).class_counts()
    else:
        logger.warning("no training features yet: the class counts in classes.json are 0")
        counts = np.zeros(len(table), dtype=np.int64)
    found = replace(table, counts=counts)
    earlier = ClassTable.load(run.path(CLASSES)) if run.has(CLASSES) else None
    if earlier is None or earlier.to_dict() != found.to_dict():
        found.save(run.path(CLASSES), overwrite=True)
    return found
