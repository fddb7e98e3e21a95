"""One store of the parts that the jobs of an array have extracted, as one extraction writes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from alphafix.errors import FileFormatError, InputError, call, counted, option, some
from alphafix.features.ledger import Ledger, Note
from alphafix.features.parts import PART, Part
from alphafix.features.shards import read_shard, require_unique
from alphafix.features.split import write_store_of
from alphafix.features.store import MANIFEST, FeatureStore
from alphafix.features.sums import ClassSums
from alphafix.files import atomic_path, digest, sha256_file
from alphafix.progress import Progress
from alphafix.reading.boundary import reading
from alphafix.run.artifact import Artifact, difference
from alphafix.run.directory import FEATURES
from alphafix.values.division import Division
from alphafix.values.head import Head

# What a job may have been asked to do besides, which its features do not show.
_OF_ONE_JOB = ("check",)


def parts_by_split(folders: Sequence[Path], *, shards: bool = True) -> dict[str, list[Part]]:
    """The parts of each split, in the order of their numbers: all of them, of one division.

    Args:
        folders: Folders of the parts, as `extract` has left them.
        shards: Whether the features themselves must be there.

    Raises:
        InputError: If a part is missing, there twice, unfinished, or made otherwise than others; or
            if a folder holds whole features.
        FileFormatError: If one is damaged.
    """
    for folder in folders:
        refuse_whole(folder, several=len(folders) > 1)
    splits = sorted({path.name for folder in folders for path in (folder / FEATURES).glob("*/")})
    if not splits:
        raise InputError(
            f"there are no features in {some(map(str, folders))}",
            expected="the parts of an extraction",
            todo=f"run {call('extract', shard_index='I', shard_count='N')} for each part first",
        )
    # The order in which `extract` takes splits, so that what it writes is the same.
    order = {name: number for number, name in enumerate(("train", "val", "test", "open"))}
    splits.sort(key=lambda name: (order.get(name, len(order)), name))
    return {split: _of_one(split, folders, shards=shards) for split in splits}


def refuse_whole(folder: Path, *, several: bool = False) -> None:
    """Refuse the features of one extraction, which are no part.

    Args:
        folder: What may be a part.
        several: Whether it is named beside others.

    Raises:
        InputError: If it holds whole features, and no part.
    """
    whole = sorted(place.parent.name for place in (folder / FEATURES).glob(f"*/{MANIFEST}"))
    if whole and not any((folder / FEATURES).glob(f"*/{PART}")):
        use = f"use it as it stands: {call('neighbors', run=folder)}"
        raise InputError(
            f"{folder} holds whole features: there is nothing to merge",
            got=f"{MANIFEST} of {some(whole)}, and no {PART}",
            expected=f"folders of parts, as {call('extract')} with {option('shard_index')} makes",
            todo=f"{use}, or leave it out here" if several else use,
        )


def _of_one(split: str, folders: Sequence[Path], *, shards: bool) -> list[Part]:
    places = [folder / FEATURES / split for folder in folders]
    unfinished = [place for place in places if not (place / PART).is_file()]
    if unfinished:
        raise InputError(
            f"{len(unfinished)} of {len(places)} parts have no finished features of {split}",
            got=some(str(place.parent.parent) for place in unfinished),
            expected=f"{PART} in each",
            todo=f"run {making(unfinished[0].parent.parent)} again"
            f"{', and so for the others' if len(unfinished) > 1 else ''}: it goes on where it was "
            "stopped",
        )
    parts = [Part.open(place) if shards else Part.read(place) for place in places]
    first = parts[0]
    require_all(split, [(part.division, str(part.folder.parent.parent)) for part in parts])
    for part in parts:
        part.require_complete()
        for what, now, expected in (
            ("otherwise", part.plan, first.plan),
            ("of another model or other labels", _common(part), _common(first)),
        ):
            if digest(now) != digest(expected):
                raise InputError(
                    f"{part.folder} was made {what} than {first.folder}",
                    got=difference(expected, now),
                    expected="the same options, model, data and versions for all parts",
                    todo=f"run {part.again}, if this part is the wrong one",
                )
    return sorted(parts, key=lambda part: part.division.index)


def making(folder: Path, **options: bool) -> str:
    """The command that makes a part, whose number is in the name of its folder if it says it."""
    division = Division.of(folder.name)
    if division is None:
        return call("extract", shard_index="I", shard_count="N", **options)
    return call("extract", **_numbers(division), **options)


def _numbers(division: Division) -> dict[str, int]:
    return {"shard_index": division.index, "shard_count": division.count}


def _common(part: Part) -> dict[str, Any]:
    """What must be the same of all parts, besides the plan."""
    info = {name: value for name, value in part.info.items() if name not in _OF_ONE_JOB}
    shape = (part.groups, part.width, part.num_classes, part.dtype)
    return {**info, "shape": list(shape)}


def require_all(of: str, parts: Sequence[tuple[Division, str]]) -> None:
    """Check that each part is there once.

    Args:
        of: What they are parts of, for the message.
        parts: Which part each is, and where.

    Raises:
        InputError: If one is missing or there twice, or they are of several divisions.
    """
    counts = sorted({division.count for division, _ in parts})
    if len(counts) > 1:
        raise InputError(
            f"the parts of {of} are of several divisions",
            got=" and ".join(f"{counted(count, 'part')}" for count in counts),
            expected=f"the same {option('shard_count')} for all",
            todo="name the folders of one of them, or remove those of the others",
        )
    by_index: dict[int, list[str]] = {}
    for division, place in parts:
        by_index.setdefault(division.index, []).append(place)
    twice = {index: places for index, places in by_index.items() if len(places) > 1}
    missing = sorted(set(range(counts[0])) - set(by_index))
    if missing or twice:
        faults = [f"no part {some(map(str, missing))}"] if missing else []
        faults += [f"part {index} twice: {' and '.join(p)}" for index, p in sorted(twice.items())]
        raise InputError(
            f"the {counted(counts[0], 'part')} of {of} are not all there once",
            got="; ".join(faults[:5]),
            expected=f"parts 0 to {counts[0] - 1}, each once",
            todo=_all_once(missing, counts[0], twice=bool(twice)),
        )


def _all_once(missing: Sequence[int], count: int, *, twice: bool) -> str:
    """What to do where parts are missing or there twice."""
    steps = ["name each folder once"] if twice else []
    if missing:
        first = f"run {call('extract', **_numbers(Division(missing[0], count)))}"
        others = f"part{'s' if len(missing) > 2 else ''} {some(map(str, missing[1:]))}"
        steps.insert(0, first + (f", and the same for {others}" if missing[1:] else ""))
    return "; ".join(steps)


def merge(
    parts: Sequence[Part], artifact: Artifact, head: Head, split: str, progress: Progress
) -> FeatureStore:
    """Put the shards of all parts into one store, and count them as one extraction does.

    Shards are linked where the file system allows it, and copied elsewhere; each is compared with
    its hash. What a killed command has left is used.

    Args:
        parts: All parts, by their numbers.
        artifact: The store.
        head: The head, whose hits are counted.
        split: The split.
        progress: Told of each sample.

    Raises:
        FileFormatError: If a shard has changed since it was extracted.
        InputError: If a sample is in two parts, or there is no sample at all.
    """
    notes = sorted(
        ((note, part) for part in parts for note in part.notes), key=lambda pair: pair[0].name
    )
    _require_unique_names([note for note, _ in notes])
    artifact.begin()
    ledger = Ledger(artifact.path.parent)
    ledger.keep({note.name for note, _ in notes})
    sums = ClassSums(parts[0].num_classes, parts[0].width, head)
    ids: list[str] = []
    with progress(f"merge {split}", sum(part.samples for part in parts)) as advance:
        for note, part in notes:
            if ledger.done(note.name, partial(_data, note)) is None:
                _take(note, part, ledger)
            if note.shard is not None:
                path = ledger.folder / note.shard.file
                features, labels = read_shard(path)
                if features.shape != (note.shard.samples, part.width):
                    raise _changed(path, part, f"features {features.shape}")
                sums.add(features, labels)
                ids += _ids(path)
                advance(len(labels))
    require_unique(ids, f"the parts of {split}")
    info: Mapping[str, Any] = parts[0].info
    checks = [part.info["check"] for part in parts if part.info.get("check") is not None]
    if checks:
        info = {**info, "check": checks[0]}
    write_store_of(ledger.folder, [note for note, _ in notes], sums, artifact, info, parts[0].dtype)
    return FeatureStore.open(ledger.folder)


def _data(note: Note) -> str:
    return note.data


def _require_unique_names(notes: Sequence[Note]) -> None:
    names = [note.name for note in notes]
    require_unique(names, "the shards of all parts")
    many = ["-" in name for name in names]
    numbers = [int(name) for name in names if name.isdecimal()]
    if not any(many) and numbers != list(range(len(names))):
        missing = sorted(set(range(max(numbers) + 1)) - set(numbers))
        raise InputError(
            "shards are missing between those of the parts",
            got=f"no shard {some(map(str, missing))}",
            expected=f"shards 0 to {max(numbers)}",
            todo=f"run {call('extract', overwrite=True)} for the parts that should have them",
        )


def _take(note: Note, part: Part, ledger: Ledger) -> None:
    """Put a shard in its place, and note it."""
    if note.shard is not None:
        source, target = part.folder / note.shard.file, ledger.folder / note.shard.file
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            with atomic_path(target, overwrite=True) as draft:
                shutil.copyfile(source, draft)
        found = sha256_file(target)
        if found != note.shard.sha256:
            target.unlink()
            raise _changed(source, part, f"SHA-256 {found[:12]}", f"{note.shard.sha256[:12]}")
    ledger.write(note)


def _ids(path: Path) -> list[str]:
    from alphafix.files import open_safetensors
    from alphafix.values.texts import Texts

    with open_safetensors(path, framework="numpy") as file, reading(path, "a shard of features"):
        return list(Texts.read(file.get_tensor("id_bytes"), file.get_tensor("id_ends")))


def _changed(
    path: Path, part: Part, got: str, expected: str = "what its part says"
) -> FileFormatError:
    return FileFormatError(
        f"{path} has changed since it was extracted",
        got=got,
        expected=expected,
        todo=f"run {part.again}",
    )
