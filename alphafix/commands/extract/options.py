"""Options of `alphafix extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from alphafix.commands.options import Flag, StageOptions

# Which of the fields below decide neither features nor labels.
# (Class names and their order are in the labels, whose hash is recorded, and in classes.json.)
_INCIDENTAL = {
    "run",
    "overwrite",
    "split",
    "few_below",
    "many_above",
    "class_order",
    "class_map",
    "workers",
    "device",
    "compile",
}


class ExtractOptions(StageOptions):
    """Options of `alphafix extract`."""

    backbone: Annotated[
        str,
        Flag(metavar="SPEC"),
        Field(
            description="The model: timm:NAME, torchvision:NAME, python:package.module:function "
            "(that returns it), hf:DIR (saved by transformers), oltr:DIR (trained by train-oltr), "
            "torchscript:FILE, export:FILE.pt2 or onnx:FILE."
        ),
    ]
    data: Annotated[
        str,
        Flag(metavar="SPEC"),
        Field(
            description="The images: a folder with train/CLASS/image.jpg, or with train.txt of "
            "`path label` lines or train.csv; WebDataset archives (train-{000..146}.tar); "
            "hf:DIR or hf:NAME; NumPy arrays (.npz, .npy). {split} in a path stands for the split."
        ),
    ]
    weights: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="The model's checkpoint (.safetensors, .pth); loaded strictly."),
    ] = None
    split: Annotated[
        str,
        Flag(metavar="NAMES"),
        Field(
            description="Splits to extract, with commas: train, val, test, open (of no known "
            "class). By default train, and val and test if they are there."
        ),
    ] = ""
    head: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(description="Name of the head module, if it is not found by itself."),
    ] = None
    few_below: Annotated[
        int | None,
        Field(ge=1, description="Classes with fewer training samples are few-split  [20]."),
    ] = None
    many_above: Annotated[
        int | None,
        Field(ge=0, description="Classes with more training samples are many-split  [100]."),
    ] = None
    class_order: Annotated[
        Literal["string", "natural"] | None,
        Field(description="Order of class names in the logits; needed where the two differ."),
    ] = None
    class_map: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="Class names in the order of the logits: one a line, or JSON."),
    ] = None
    root: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="Folder that the paths of a list are relative to  [the list's own]."),
    ] = None
    prefix_map: Annotated[
        tuple[str, ...],
        Flag(metavar="OLD=NEW"),
        Field(description="Replace the beginning of paths in a list (repeat the flag)."),
    ] = ()
    image_key: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(description="Archives: extension of the images; Hugging Face: their column."),
    ] = None
    label_key: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(
            description="Archives: extension of the labels, or their name in the json; "
            "Hugging Face: their column."
        ),
    ] = None
    on_bad_image: Annotated[
        Literal["error", "skip"],
        Field(description="What to do with an image that cannot be used; skipped ones are listed."),
    ] = "error"
    exif_rotate: Annotated[
        bool,
        Field(description="Turn images as their EXIF data says (training loaders do not)."),
    ] = False
    decode: Annotated[
        Literal["auto", "pillow", "torch"],
        Field(
            description="Who decodes and scales JPEG files: Pillow in the loading processes, as in "
            "training, or torchvision on the model's device; auto: the latter on a GPU."
        ),
    ] = "auto"
    image_size: Annotated[
        int | None, Field(ge=1, description="Input size instead of the model's own.")
    ] = None
    crop_pct: Annotated[
        float | None, Field(gt=0, le=1, description="Centre crop instead of the model's own.")
    ] = None
    interpolation: Annotated[
        Literal["bilinear", "bicubic", "lanczos", "nearest"] | None,
        Field(description="Scaling of images instead of the model's own."),
    ] = None
    mean: Annotated[
        str | None,
        Flag(metavar="R,G,B"),
        Field(description="Mean of the channels (0 to 1) instead of the model's own."),
    ] = None
    std: Annotated[
        str | None,
        Flag(metavar="R,G,B"),
        Field(description="Standard deviation of the channels instead of the model's own."),
    ] = None
    limit: Annotated[
        int | None, Field(ge=1, description="Use only this many images a split: for a first try.")
    ] = None
    batch_size: Annotated[int, Field(ge=1, description="Images a batch.")] = 64
    shard_samples: Annotated[
        int | None, Field(ge=1, description="Samples a stored file  [as many as fill 64 MiB].")
    ] = None
    workers: Annotated[
        int | None, Field(ge=0, description="Processes that load images  [one a core, at most 16].")
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], Field(description="Where the model runs.")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Field(description="How exactly it runs; auto: bf16 on a GPU that has it, fp32 on a CPU."),
    ] = "auto"
    compile: Annotated[bool, Field(description="Compile the model first (torch.compile).")] = False
    store_dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], Field(description="Type of stored features.")
    ] = "float32"

    def recorded(self) -> dict[str, Any]:
        """The options that decide the features, as JSON data for their provenance."""
        weights = None if self.weights is None else self.weights.name  # its hash is recorded too
        return {**self.model_dump(mode="json", exclude=_INCIDENTAL), "weights": weights}
