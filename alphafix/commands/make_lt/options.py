"""Options of `alphafix make-lt`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from alphafix.commands.options import CommandOptions, flag
from alphafix.errors import option

Part = Literal["train", "val", "test"]


class MakeLtOptions(CommandOptions):
    """Options of `alphafix make-lt`."""

    # Where things lie decides nothing; the manifest holds a hash of the images' names.
    INCIDENTAL = frozenset({"data", "output", "overwrite", "verify", "counts", "open_data"})

    data: Path | None = flag(
        None, help="Images: DIR/CLASS/..., or DIR/train/CLASS/... with val and test.", metavar="DIR"
    )
    output: Path | None = flag(
        None,
        help="Folder of the lists  [lists; with --verify, that of FILE].",
        metavar="DIR",
        writes=True,
    )
    overwrite: bool = flag(False, help="Replace lists that are there.")
    distribution: Literal["pareto", "exponential"] = flag(
        "pareto",
        help="Training images by rank of the class: as in ImageNet-LT, or as in CIFAR-100-LT.",
    )
    power: float = flag(6.0, help="Of pareto; less is more imbalanced (ImageNet-LT: 6).", gt=0)
    imbalance: float = flag(
        100.0, help="Of exponential: the largest count over the smallest.", ge=1
    )
    max_images: int | None = flag(
        None,
        help="Images of the largest class  [as many as the classes allow].",
        flags=("--max",),
        ge=1,
    )
    min_images: int = flag(
        5, help="Of pareto: images of the smallest class.", flags=("--min",), ge=1
    )
    counts: str | None = flag(
        None,
        help="Instead of a distribution, images of each class: a file (lines of class "
        "and count, or JSON), or class=count,class=count,...",
        metavar="FILE",
    )
    order: Literal["id", "random", "size"] = flag(
        "id",
        help="Which class gets most: by class id, at random, or by the number of "
        "images that it has.",
    )
    class_order: Literal["string", "natural"] = flag(
        "string", help="Order of class ids: string (1, 10, 2) or natural (1, 2, 10)."
    )
    val: int = flag(20, help="Validation images a class; 0 for no list.", ge=0)
    test: int = flag(20, help="Test images a class; 0 for no list.", ge=0)
    val_from: Part | None = flag(
        None, help="Part that validation images are drawn from  [val, or else train]."
    )
    test_from: Part | None = flag(
        None, help="Part that test images are drawn from  [test, or else train]."
    )
    open: tuple[str, ...] = flag(
        (),
        help="A class that training never sees (repeat the flag).",
        metavar="CLASS",
        complete="classes",
    )
    open_classes: int = flag(0, help="How many more such classes to draw at random.", ge=0)
    open_data: Path | None = flag(
        None, help="Images of such classes from elsewhere, in class folders or not.", metavar="DIR"
    )
    open_images: int | None = flag(None, help="Images of each of these classes  [all].", ge=1)
    seed: int = flag(0, help="Which images are drawn.", ge=0)
    verify: Path | None = flag(
        None,
        help="Make nothing: check the lists in --output against a manifest or a file of sha256sum.",
        metavar="FILE",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> MakeLtOptions:
        if self.data is None and self.verify is None:
            raise ValueError(f"give {option('data')}, or {option('verify')}")
        most = self.max_images
        if most is not None and self.counts is not None:
            raise ValueError(f"{option('max_images')} does not go with {option('counts')}")
        if most is not None and self.distribution == "pareto" and most < self.min_images:
            raise ValueError(f"{option('max_images')} is less than {option('min_images')}")
        return self
