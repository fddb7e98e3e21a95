"""The images of `alphafix train-oltr`: splits, transforms, and what may not overlap."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.errors import InputError
from alphafix.images.batches import bad_image
from alphafix.images.data import ImageData
from alphafix.images.decode import decode
from alphafix.images.folders import FolderData
from alphafix.images.listing import FileListing
from alphafix.images.source import BadImageError, Content, ImageSource, spread
from alphafix.images.spec import Details, open_data
from alphafix.images.splits import SplitSources, choose_splits, open_splits
from alphafix.oltr.augmentation import BATCH_AUGMENTATIONS, BatchAugmentation, PhotoAugmentation
from alphafix.oltr.data import FileImages, Images, labels_of
from alphafix.oltr.recipes import Recipe
from alphafix.oltr.sampling import require_samples
from alphafix.oltr.transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from alphafix.values.classes import ClassTable

logger = logging.getLogger(__name__)

# Images that are changed by the batch stay in memory up to this size.
MEMORY = 4 << 30

# Images behind the mean and deviation of small images.
MEASURED = 10_000


@dataclass(frozen=True)
class ImageSplits:
    """All images of a training.

    Attributes:
        sources: Where they come from, by split.
        labels: Class of each image, by split; -1 in "open".
        classes: The C classes.
        transform: What a test does to an image.
    """

    sources: dict[str, ImageSource]
    labels: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]
    classes: ClassTable
    transform: ImageTransform

    def fingerprints(self) -> dict[str, str]:
        """Hash of what each split holds."""
        return {split: source.fingerprint() for split, source in self.sources.items()}

    def images(self, split: str, recipe: Recipe, workers: int) -> Images:
        """The images of a split, in memory where nothing is random about a single one."""
        augmentation = augmentation_of(recipe, self.transform)
        transform = self.transform
        files = FileImages(
            self.sources[split],
            self.labels[split],
            transform,
            augmentation if split == "train" else None,
            workers=workers,
        )
        size = len(files) * transform.channels * transform.size**2
        if isinstance(augmentation, PhotoAugmentation) or size > MEMORY:
            return files
        return files.in_memory()


def augmentation_of(
    recipe: Recipe, transform: ImageTransform
) -> PhotoAugmentation | BatchAugmentation | None:
    """What is random about training images."""
    if recipe.augmentation in ("official", "paper"):
        return PhotoAugmentation(recipe.augmentation, transform.resize, transform.size)
    return BATCH_AUGMENTATIONS.get(recipe.augmentation)


def open_images(options: TrainOltrOptions, recipe: Recipe) -> ImageSplits:
    """Open all splits, and check them before anything is trained.

    Raises:
        InputError: If there is no such data, a class has no image, a label is no class, or
            the open set overlaps the known classes.
    """
    data = _open(options.data, options)
    splits = choose_splits(data, "", options.data)
    opened = open_splits(data, splits, order=options.class_order, class_map=options.class_map)
    sources = dict(opened.sources)
    labels = {split: labels_of(source) for split, source in sources.items()}
    classes = _classes(opened, labels["train"], recipe)
    opened.check_classes(len(classes))
    require_samples(labels["train"], len(classes), classes.names)
    unknown = _open_set(options, data)
    if unknown is not None:
        _refuse_overlap(unknown, sources, labels, classes.names)
        sources["open"] = unknown
        labels["open"] = labels_of(unknown)
    return ImageSplits(sources, labels, classes, _transform(sources["train"], recipe))


def _open(spec: str, options: TrainOltrOptions) -> ImageData:
    return open_data(spec, Details(root=options.root))


def _classes(opened: SplitSources, labels: object, recipe: Recipe) -> ClassTable:
    numbers = np.asarray(labels, dtype=np.int64)
    known = numbers[numbers >= 0]
    highest = int(known.max()) + 1 if len(known) else 0
    names = opened.names or tuple(str(number) for number in range(highest))
    counts = np.bincount(known, minlength=len(names))[: len(names)]
    return ClassTable(names, counts.astype(np.int64), recipe.thresholds)


def _open_set(options: TrainOltrOptions, data: ImageData) -> ImageSource | None:
    """The images of unknown classes: those of --open, or the split "open" of the data."""
    if options.open is None:
        there = not data.single and data.has("open")
        return data.source("open", None) if there else None
    other = _open(options.open, options)
    if not other.has("open"):
        # The folder itself, without a split's name in its path.
        other = FolderData(options.open)
        if not other.has("open"):
            raise InputError(
                "there are no images of unknown classes",
                got=f"--open {options.open}",
                expected="a folder of images, a list file, archives or arrays",
                todo="correct --open, or leave it out",
            )
    return other.source("open", None)


def _refuse_overlap(
    unknown: ImageSource,
    known: Mapping[str, ImageSource],
    labels: Mapping[str, object],
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
            raise _overlap(f"{len(same)} images of {split}, the first {same[0]}")
        folders = _class_folders(own, np.asarray(labels[split]))
        inside = sorted({path.parent for path in paths} & folders)
        if inside:
            raise _overlap(f"images of {inside[0]}, which is the folder of a known class")


def _paths(source: FileListing) -> list[Path]:
    root = source.root.absolute()
    return [root / source.paths[index] for index in range(len(source.paths))]


def _class_folders(
    paths: list[Path], labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> set[Path]:
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


def _transform(source: ImageSource, recipe: Recipe) -> ImageTransform:
    """The test transform: as the recipe says, or as the images are."""
    content = source.sample(0, 0).content
    image = _decoded(source.sample(0, 0).id, content)
    channels = recipe.channels or (1 if _is_grey(content) else 3)
    size = recipe.size or image.size[0]
    if recipe.size is None and image.size[0] != image.size[1]:
        raise InputError(
            "the size of the model's input is not certain",
            got=f"images of {image.size[0]} x {image.size[1]}",
            expected="square images, or a size",
            todo="give --image-size",
        )
    photos = recipe.augmentation in ("official", "paper")
    transform = ImageTransform(
        channels=channels,
        resize=recipe.resize or size,
        size=size,
        square=recipe.augmentation == "paper",
        mean=IMAGENET_MEAN[:channels],
        std=IMAGENET_STD[:channels],
    )
    return transform if photos and channels == 3 else measured(source, transform)


def _is_grey(content: Content) -> bool:
    return isinstance(content, Image.Image) and content.mode in ("L", "1")


def _decoded(name: str, content: Content) -> Image.Image:
    try:
        return decode(content)
    except BadImageError as error:
        raise bad_image([(name, str(error))]) from error


def measured(source: ImageSource, transform: ImageTransform) -> ImageTransform:
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
