"""Options of `alphafix make-lt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import CommandOptions, Flag
from alphafix.errors import option

Part = Literal["train", "val", "test"]

# Where things lie decides nothing; the manifest holds a hash of the images' names.
_INCIDENTAL = {"data", "output", "overwrite", "verify", "counts", "open_data"}


class MakeLtOptions(CommandOptions):
    """Options of `alphafix make-lt`."""

    data: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="Images: DIR/CLASS/..., or DIR/train/CLASS/... with val and test."),
    ] = None
    output: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="Folder of the lists  [lists; with --verify, that of FILE]."),
    ] = None
    overwrite: Annotated[bool, Field(description="Replace lists that are there.")] = False
    distribution: Annotated[
        Literal["pareto", "exponential"],
        Field(
            description="Training images by rank of the class: as in ImageNet-LT, or as in "
            "CIFAR-100-LT."
        ),
    ] = "pareto"
    power: Annotated[
        float, Field(gt=0, description="Of pareto; less is more imbalanced (ImageNet-LT: 6).")
    ] = 6.0
    imbalance: Annotated[
        float, Field(ge=1, description="Of exponential: the largest count over the smallest.")
    ] = 100.0
    max_images: Annotated[
        int | None,
        Flag(("--max",)),
        Field(ge=1, description="Images of the largest class  [as many as the classes allow]."),
    ] = None
    min_images: Annotated[
        int,
        Flag(("--min",)),
        Field(ge=1, description="Of pareto: images of the smallest class."),
    ] = 5
    counts: Annotated[
        str | None,
        Flag(metavar="FILE"),
        Field(
            description="Instead of a distribution, images of each class: a file (lines of class "
            "and count, or JSON), or class=count,class=count,..."
        ),
    ] = None
    order: Annotated[
        Literal["id", "random", "size"],
        Field(
            description="Which class gets most: by class id, at random, or by the number of "
            "images that it has."
        ),
    ] = "id"
    class_order: Annotated[
        Literal["string", "natural"],
        Field(description="Order of class ids: string (1, 10, 2) or natural (1, 2, 10)."),
    ] = "string"
    val: Annotated[int, Field(ge=0, description="Validation images a class; 0 for no list.")] = 20
    test: Annotated[int, Field(ge=0, description="Test images a class; 0 for no list.")] = 20
    val_from: Annotated[
        Part | None,
        Field(description="Part that validation images are drawn from  [val, or else train]."),
    ] = None
    test_from: Annotated[
        Part | None,
        Field(description="Part that test images are drawn from  [test, or else train]."),
    ] = None
    open: Annotated[
        tuple[str, ...],
        Flag(metavar="CLASS"),
        Field(description="A class that training never sees (repeat the flag)."),
    ] = ()
    open_classes: Annotated[
        int, Field(ge=0, description="How many more such classes to draw at random.")
    ] = 0
    open_data: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="Images of such classes from elsewhere, in class folders or not."),
    ] = None
    open_images: Annotated[
        int | None, Field(ge=1, description="Images of each of these classes  [all].")
    ] = None
    seed: Annotated[int, Field(ge=0, description="Which images are drawn.")] = 0
    verify: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(
            description="Make nothing: check the lists in --output against a manifest or a file "
            "of sha256sum."
        ),
    ] = None

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

    def recorded(self) -> dict[str, Any]:
        """The options that decide the lists, as JSON data for the manifest."""
        return self.model_dump(mode="json", exclude=_INCIDENTAL)
