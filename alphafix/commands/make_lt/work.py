"""`alphafix make-lt`: class folders -> long-tailed lists, or a check of lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.commands.command import Watch
from alphafix.commands.make_lt.options import MakeLtOptions
from alphafix.errors import InputError, option
from alphafix.files import digest
from alphafix.longtail.checksums import read_checksums, verify
from alphafix.longtail.choose import (
    images_from_elsewhere,
    images_of_open,
    known_and_open,
    sources,
)
from alphafix.longtail.counts import exponential_counts, given_counts, pareto_counts
from alphafix.longtail.draw import LongTail, Source, class_counts, draw
from alphafix.longtail.material import ClassImages
from alphafix.longtail.writing import refuse_filled, write_folder
from alphafix.report.drawing import figure
from alphafix.report.style import png_bytes
from alphafix.run.artifact import State, recorded_plan
from alphafix.run.directory import Provenance
from alphafix.values.arrays import IntArray
from alphafix.values.classes import TIERS, ClassTable

OUTPUT = Path("lists")
MANIFEST = "manifest.json"
PICTURE = "distribution.png"
LISTS = ("train", "val", "test", "open")


@dataclass(frozen=True)
class MadeLists:
    """Lists that were written.

    Attributes:
        folder: Where they are.
        root: Folder that their paths are relative to.
        lists: Their content.
        manifest: What manifest.json holds.
    """

    folder: Path
    root: Path
    lists: LongTail
    manifest: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"output": str(self.folder), **self.manifest}

    @property
    def classes(self) -> ClassTable:
        """The known classes with their training counts."""
        return _table(self.lists)


@dataclass(frozen=True)
class VerifiedLists:
    """Lists that are as their checksums say."""

    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"verified": list(self.names)}


def work(options: MakeLtOptions, watch: Watch) -> MadeLists | VerifiedLists:
    """Draw lists (see `make_lists`), or check some (see `verify_lists`)."""
    if options.verify is not None:
        return VerifiedLists(verify_lists(options))
    return make_lists(options)


def state(options: MakeLtOptions) -> State:
    """Whether the lists are there as `work` would make them."""
    if options.verify is not None:
        return State.MISSING
    folder = options.output or OUTPUT
    if not (folder / MANIFEST).is_file():
        return State.MISSING
    recorded = recorded_plan(folder / MANIFEST)
    images = ClassImages.scan(options.data or Path())
    same = digest(recorded) == digest(_provenance(images, options).to_dict())
    return State.CURRENT if same else State.OTHER


def make_lists(options: MakeLtOptions) -> MadeLists:
    """Draw long-tailed lists and write them, their class order, hashes and picture.

    Raises:
        InputError: If the images do not suffice, or an option names what is not there.
        TargetExistsError: If the folder holds something and ``options.overwrite`` is false.
    """
    folder = options.output or OUTPUT
    if options.data is None:
        raise InputError("there are no images to draw from", todo=f"give {option('data')}")
    images = ClassImages.scan(options.data)
    lists = _draw(images, options)
    files = {name: text.encode() for name, text in lists.texts().items()}
    manifest = _manifest(lists, images, files, options)
    files[PICTURE] = png_bytes(figure(_table(lists)))
    files[MANIFEST] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    refuse_filled(folder, files, overwrite=options.overwrite)
    stale = [f"{name}.txt" for name in LISTS] if options.overwrite else []
    write_folder(folder, files, last=MANIFEST, stale=stale, overwrite=options.overwrite)
    return MadeLists(folder, options.data, lists, manifest)


def verify_lists(options: MakeLtOptions) -> tuple[str, ...]:
    """Check lists against recorded checksums, and return the names of the lists.

    Raises:
        InputError: If a list differs or is missing.
        FileFormatError: If there are no checksums in the file.
    """
    if options.verify is None:
        raise InputError("there are no checksums to compare with", todo=f"give {option('verify')}")
    return verify(read_checksums(options.verify), options.output or options.verify.parent)


def _draw(images: ClassImages, options: MakeLtOptions) -> LongTail:
    sizes = {"val": options.val, "test": options.test}
    wanted: dict[str, str | None] = {"val": options.val_from, "test": options.test_from}
    source = sources(images, sizes, wanted)
    names, opened = known_and_open(
        images,
        images.names(options.class_order),
        options.open,
        options.open_classes,
        seed=options.seed,
    )
    unknown = images_of_open(images, opened, source.parts["test"])
    if options.open_data is not None:
        unknown |= images_from_elsewhere(images, {*names, *opened}, options.open_data)
    return draw(
        images,
        names,
        _counts(images, names, source, options),
        source,
        unknown,
        open_images=options.open_images,
        seed=options.seed,
    )


def _counts(
    images: ClassImages, names: tuple[str, ...], source: Source, options: MakeLtOptions
) -> IntArray:
    """Training images of each class."""
    if options.counts is not None:
        return given_counts(options.counts, names)
    return class_counts(
        images,
        names,
        _profile(len(names), options),
        source,
        order=options.order,
        most=options.max_images,
        seed=options.seed,
    )


def _profile(num_classes: int, options: MakeLtOptions) -> Callable[[int], IntArray]:
    """Counts by rank, given the first one."""
    if options.distribution == "exponential":
        return lambda most: exponential_counts(num_classes, imbalance=options.imbalance, most=most)
    # While the largest count is sought, it may be tried below the smallest one.
    return lambda most: pareto_counts(
        num_classes,
        power=options.power,
        most=max(most, options.min_images),
        least=options.min_images,
    )


def _table(lists: LongTail) -> ClassTable:
    return ClassTable(lists.names, lists.counts("train"))


def _manifest(
    lists: LongTail, images: ClassImages, files: Mapping[str, bytes], options: MakeLtOptions
) -> dict[str, Any]:
    counts = {split: lists.counts(split).tolist() for split in LISTS[:3]}
    return {
        "value": "long-tailed lists",
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "images": {split: len(rows) for split, rows in lists.lists.items()},
        "splits": {name: len(_table(lists).tier(name)) for name in TIERS},
        "classes": [
            {
                "id": i,
                "name": name,
                **{split: found[i] for split, found in counts.items()},
                "available": int(lists.available[i]),
            }
            for i, name in enumerate(lists.names)
        ],
        "open_classes": list(lists.open_names),
        "provenance": _provenance(images, options).to_dict(),
    }


def _provenance(images: ClassImages, options: MakeLtOptions) -> Provenance:
    return Provenance("make-lt", options.recorded(), {"image names": images.fingerprint()})
