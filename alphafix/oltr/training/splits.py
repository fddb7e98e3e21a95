"""The images of a training by split: where they are, their transform, and what may not overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from alphafix.errors import InputError, counted, option
from alphafix.images.batches import bad_image
from alphafix.images.decode import decode
from alphafix.images.folders import FolderData
from alphafix.images.listing import FileListing
from alphafix.images.parts import spread
from alphafix.images.source import BadImageError, Content, ImageSource
from alphafix.images.spec import Details, open_data
from alphafix.images.splits import Said, SplitSources, choose_splits, open_splits
from alphafix.oltr.models.transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from alphafix.oltr.training.augmentation import (
    BATCH_AUGMENTATIONS,
    BatchAugmentation,
    PhotoAugmentation,
)
from alphafix.oltr.training.images import FileImages, Images, labels_of
from alphafix.oltr.training.recipes import TrainingRecipe
from alphafix.oltr.training.sampling import require_samples
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable

# Images that are changed by the batch stay in memory up to this size.
MEMORY = 4 << 30

# Images behind the mean and deviation of small images.
MEASURED = 10_000

# What changes photographs, one by one.
PHOTOS = ("official", "paper")

Augmentation = PhotoAugmentation | BatchAugmentation


@dataclass(frozen=True)
class ImageSplits:
    """All images of a training.

    Attributes:
        sources: Where they come from, by split.
        labels: Class of each image, by split, int64; -1 in "open" and "open-val".
        classes: The C classes.
        transform: What a test does to an image.
        augmentation: What is random about training images.
        workers: Processes that load them.
    """

    sources: Mapping[str, ImageSource]
    labels: Mapping[str, IntArray]
    classes: ClassTable
    transform: ImageTransform
    augmentation: Augmentation | None
    workers: int = 0
    _loaded: dict[str, Images] = field(default_factory=dict)

    def has(self, split: str) -> bool:
        """Whether there is such a split."""
        return split in self.sources

    def fingerprints(self) -> dict[str, str]:
        """Hash of what each split holds."""
        return {split: source.fingerprint().sha256 for split, source in self.sources.items()}

    def load(self, split: str) -> Images:
        """The images of a split, in memory where nothing is random about a single one."""
        if split not in self._loaded:
            self._loaded[split] = self._load(split)
        return self._loaded[split]

    def _load(self, split: str) -> Images:
        files = FileImages(
            self.sources[split],
            self.labels[split],
            self.transform,
            self.augmentation if split == "train" else None,
            workers=self.workers,
        )
        size = len(files) * self.transform.channels * self.transform.size**2
        if isinstance(self.augmentation, PhotoAugmentation) or size > MEMORY:
            return files
        return files.in_memory()


def open_images(
    data: str,
    recipe: TrainingRecipe,
    *,
    open: str | None = None,
    open_val: str | None = None,
    root: Path | None = None,
    class_order: Literal["string", "natural"] | None = None,
    class_map: Path | None = None,
    workers: int = 0,
) -> ImageSplits:
    """Open all splits, and check them before anything is trained.

    Args:
        data: Images with splits, in any form that extraction takes.
        recipe: Says how they are prepared, and where few and many end.
        open: Images of unknown classes, or None for the data's split open.
        open_val: Others, which the open-set threshold may be chosen with, or None.
        root: Folder that the paths of a list are relative to, or None for the list's own.
        class_order: Order of class names in the logits, where it was said.
        class_map: File of class names in the order of the logits, where it was said.
        workers: Processes that load them.

    Raises:
        InputError: If there is no such data, a class has no image, a label is no class, or
            the open set overlaps the known classes.
    """
    found = open_data(data, Details(root=root))
    splits = choose_splits(found, "", data)
    opened = open_splits(found, splits, Said(order=class_order, class_map=class_map))
    opened.warn()
    sources = dict(opened.sources)
    labels = {split: labels_of(source) for split, source in sources.items()}
    classes = _classes(opened, labels["train"], recipe)
    opened.check_classes(len(classes))
    require_samples(labels["train"], len(classes), classes.names)
    unknown = {"open": _unknown(open, root), "open-val": _unknown(open_val, root)}
    if open is None and "open" in found.there():
        unknown["open"] = found.source("open", "open", None)
    given = {name: source for name, source in unknown.items() if source is not None}
    for source in given.values():
        _refuse_overlap(source, opened.sources, labels, classes.names)
    _refuse_same(*unknown.values())
    sources |= given
    labels |= {name: labels_of(source) for name, source in given.items()}
    transform = _transform(sources["train"], recipe)
    augmentation: Augmentation | None = BATCH_AUGMENTATIONS.get(recipe.augmentation)
    if recipe.augmentation in PHOTOS:
        augmentation = PhotoAugmentation(recipe.augmentation, transform.resize, transform.size)
    return ImageSplits(sources, labels, classes, transform, augmentation, workers)


def _classes(opened: SplitSources, labels: IntArray, recipe: TrainingRecipe) -> ClassTable:
    known = labels[labels >= 0]
    highest = int(known.max()) + 1 if len(known) else 0
    names = opened.names or tuple(str(number) for number in range(highest))
    counts = np.bincount(known, minlength=len(names))[: len(names)]
    return ClassTable(names, counts.astype(np.int64), recipe.thresholds)


def _unknown(given: str | None, root: Path | None) -> ImageSource | None:
    """Images of unknown classes that were given, if some were."""
    if given is None:
        return None
    other = open_data(given, Details(root=root))
    if not other.single and "open" not in other.there():
        # The folder itself, without a split's name in its path.
        other = FolderData(given)
        if not other.exists("open"):
            raise InputError(
                "there are no images of unknown classes",
                got=option("open", given),
                expected="a folder of images, a list file, archives or arrays",
                todo=f"correct {option('open')}, or leave it out",
            )
    return other.source("open", "open", None)


def _refuse_overlap(
    unknown: ImageSource,
    known: Mapping[str, ImageSource],
    labels: Mapping[str, IntArray],
    names: tuple[str, ...],
) -> None:
    """Check that the open set shares neither images nor classes with the known ones.

    Raises:
        InputError: If it does.
    """
    if not isinstance(unknown, FileListing):
        return
    paths = _paths(unknown)
    top = {str(unknown.paths[i]).partition("/")[0] for i in range(len(unknown.paths))}
    shared = sorted(top & set(names))
    if shared and any("/" in unknown.paths[i] for i in range(len(unknown.paths))):
        raise _overlap(f"class folders {', '.join(shared[:5])}")
    for split, source in known.items():
        if not isinstance(source, FileListing):
            continue
        own = _paths(source)
        same = sorted(set(paths) & set(own))
        if same:
            raise _overlap(f"{counted(len(same), 'image')} of {split}, the first {same[0]}")
        folders = _class_folders(own, labels[split])
        inside = sorted({path.parent for path in paths} & folders)
        if inside:
            raise _overlap(f"images of {inside[0]}, which is the folder of a known class")


def _refuse_same(one: ImageSource | None, other: ImageSource | None) -> None:
    """Check that the threshold is not chosen on images that are evaluated."""
    if isinstance(one, FileListing) and isinstance(other, FileListing):
        same = sorted(set(_paths(one)) & set(_paths(other)))
        if same:
            raise InputError(
                "the open set is also what its threshold is chosen with",
                got=f"{counted(len(same), 'image')} in both, the first {same[0]}",
                expected="other images",
                todo=f"correct {option('open_val')}",
            )


def _paths(source: FileListing) -> list[Path]:
    root = source.root.absolute()
    return [root / source.paths[index] for index in range(len(source.paths))]


def _class_folders(paths: list[Path], labels: IntArray) -> set[Path]:
    """Folders whose images are all of one class (not those with images of many)."""
    classes: dict[Path, set[int]] = {}
    for path, label in zip(paths, labels.tolist(), strict=True):
        classes.setdefault(path.parent, set()).add(label)
    return {folder for folder, found in classes.items() if len(found) == 1 and len(classes) > 1}


def _overlap(what: str) -> InputError:
    return InputError(
        "the open set overlaps the known classes",
        got=what,
        expected="only images of classes that training does not know",
        todo="take these out of the open set",
    )


def _transform(source: ImageSource, recipe: TrainingRecipe) -> ImageTransform:
    """The test transform: as the recipe says, or as the images are."""
    content = source.sample(0, 0).content
    image = _decoded(source.sample(0, 0).id, content)
    grey = isinstance(content, Image.Image) and content.mode in ("L", "1")
    channels = recipe.channels or (1 if grey else 3)
    size = recipe.size or image.size[0]
    if recipe.size is None and image.size[0] != image.size[1]:
        raise InputError(
            "the size of the model's input is not certain",
            got=f"images of {image.size[0]} x {image.size[1]}",
            expected="square images, or a size",
            todo=f"give {option('image_size')}",
        )
    transform = ImageTransform(
        channels=channels,
        resize=recipe.resize or size,
        size=size,
        square=recipe.augmentation == "paper",
        mean=IMAGENET_MEAN[:channels],
        std=IMAGENET_STD[:channels],
    )
    return (
        transform
        if recipe.augmentation in PHOTOS and channels == 3
        else _measured(source, transform)
    )


def _decoded(name: str, content: Content) -> Image.Image:
    try:
        return decode(content)
    except BadImageError as error:
        raise bad_image([(name, str(error))]) from error


def _measured(source: ImageSource, transform: ImageTransform) -> ImageTransform:
    """The transform with mean and deviation of the pixels of a part of the images."""
    sums = torch.zeros(2, transform.channels, dtype=torch.float64)
    pixels = 0
    for group in range(source.groups):
        for index in spread(source.size(group), max(1, MEASURED // source.groups)):
            sample = source.sample(group, int(index))
            values = transform(_decoded(sample.id, sample.content)).double() / 255
            sums[0] += values.sum((1, 2))
            sums[1] += values.square().sum((1, 2))
            pixels += values[0].numel()
    mean = sums[0] / pixels
    std = (sums[1] / pixels - mean**2).clamp_min(0).sqrt()
    # Rounded, so that the order of summation does not matter; never zero.
    return replace(
        transform,
        mean=tuple(round(value, 4) for value in mean.tolist()),
        std=tuple(round(value, 4) or 1.0 for value in std.tolist()),
    )
