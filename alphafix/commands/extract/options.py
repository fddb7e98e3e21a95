"""Options of `alphafix extract`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import model_validator

from alphafix.commands.options import (
    ClassMap,
    Commas,
    Compile,
    FewBelow,
    ListRoot,
    ManyAbove,
    NameOrder,
    StageOptions,
    StoreDtype,
    Workers,
    flag,
)
from alphafix.errors import option
from alphafix.run.directory import PARTS
from alphafix.values.division import Division


class ExtractOptions(StageOptions):
    """Options of `alphafix extract`."""

    # Class names and their order are in the labels, whose hash is recorded, and in classes.json.
    ELSEWHERE = frozenset({"run", "root"})

    INCIDENTAL = StageOptions.INCIDENTAL | {
        "split",
        "few_below",
        "many_above",
        "class_order",
        "class_map",
        "label_kind",
        "workers",
        "device",
        "compile",
        "check",
        "shard_index",
        "shard_count",
    }

    backbone: str = flag(
        help="The model: timm:NAME, torchvision:NAME, python:package.module:function "
        "(that returns it), hf:DIR (saved by transformers), oltr:DIR (trained by train-oltr), "
        "torchscript:FILE, export:FILE.pt2 or onnx:FILE.",
        metavar="SPEC",
        complete="backbones",
    )
    data: str = flag(
        help="The images: a folder with train/CLASS/image.jpg, or with train.txt of "
        "`path label` lines or train.csv; one CSV with a column split; WebDataset archives "
        "(train-{000..146}.tar); hf:DIR or hf:NAME; NumPy arrays (.npz, .npy). {split} in a path "
        "stands for the split.",
        metavar="SPEC",
    )
    weights: Path | None = flag(
        None, help="The model's checkpoint (.safetensors, .pth); loaded strictly.", metavar="FILE"
    )
    section: str = flag(
        "",
        help="Part of a torch file that the weights are in (state_dict, state_dict_ema, ...), "
        "where it has several.",
        metavar="NAME",
    )
    model_arg: tuple[str, ...] = flag(
        (),
        help="An argument that the model was made with, which weights do not tell: "
        "global_pool=max, img_size=384, transform_input=True (timm, torchvision, python; "
        "repeat the flag)  [as a config.json of timm beside the weights says].",
        metavar="NAME=VALUE",
    )
    check: Path | None = flag(
        None,
        help="What your own code gives for some images, which the model must give here too: "
        "ids with logits or classes, or an accuracy (.npz, .csv, .json).",
        metavar="FILE",
    )
    split: Annotated[str, Commas] = flag(
        "",
        help="Splits to extract, with commas: train, val, test, open (of no known "
        "class). By default train, and val and test if they are there.",
        metavar="NAMES",
    )
    split_name: tuple[str, ...] = flag(
        (),
        help="What the data calls a split, where it is not understood: val=holdout (repeat the "
        "flag).",
        metavar="OURS=THEIRS",
    )
    val_fraction: float | None = flag(
        None,
        help="Make the split val of this part of each training class, where there is none.",
        gt=0,
        lt=1,
    )
    val_seed: int = flag(0, help="What draws it.", ge=0)
    head: str | None = flag(
        None, help="Name of the head module, if it is not found by itself.", metavar="NAME"
    )
    few_below: FewBelow = None
    many_above: ManyAbove = None
    class_order: NameOrder = None
    class_map: ClassMap = None
    label_kind: Literal["names", "ids"] | None = flag(
        None, help="What labels are that could be either: names of classes, or class ids."
    )
    endings: Annotated[str | None, Commas] = flag(
        None,
        help="Endings of image files in class folders  [all that Pillow reads as images].",
        metavar="jpg,png",
    )
    root: ListRoot = None
    prefix_map: tuple[str, ...] = flag(
        (), help="Replace the beginning of paths in a list (repeat the flag).", metavar="OLD=NEW"
    )
    image_key: str | None = flag(
        None,
        help="Archives: extension of the images; CSV and Hugging Face: their column.",
        metavar="NAME",
    )
    label_key: str | None = flag(
        None,
        help="Archives: extension of the labels, or their name in the json; "
        "CSV and Hugging Face: their column.",
        metavar="NAME",
    )
    on_bad_image: Literal["error", "skip"] = flag(
        "error", help="What to do with an image that cannot be used; skipped ones are listed."
    )
    exif_rotate: bool = flag(
        False, help="Turn images as their EXIF data says (training loaders do not)."
    )
    decode: Literal["auto", "pillow", "torch"] = flag(
        "auto",
        help="Who decodes and scales JPEG files: Pillow in the loading processes, as in "
        "training, or TorchCodec on the model's device (torchvision where it is not installed); "
        "auto: the latter on a GPU.",
    )
    image_size: int | None = flag(None, help="Input size instead of the model's own.", ge=1)
    crop_pct: float | None = flag(None, help="Centre crop instead of the model's own.", gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] | None = flag(
        None, help="Scaling of images instead of the model's own."
    )
    mean: Annotated[str | None, Commas] = flag(
        None, help="Mean of the channels (0 to 1) instead of the model's own.", metavar="R,G,B"
    )
    std: Annotated[str | None, Commas] = flag(
        None, help="Standard deviation of the channels instead of the model's own.", metavar="R,G,B"
    )
    limit: int | None = flag(None, help="Use only this many images a split: for a first try.", ge=1)
    batch_size: int = flag(64, help="Images a batch.", ge=1)
    shard_samples: int | None = flag(
        None, help="Samples a stored file  [as many as fill 64 MiB].", ge=1
    )
    shard_index: int | None = flag(
        None,
        help="Extract one part alone, of a job array: its number, from 0 "
        "($SLURM_ARRAY_TASK_ID). Then: alphafix features merge.",
        ge=0,
    )
    shard_count: int | None = flag(None, help="How many parts there are.", ge=1)
    workers: Workers = None
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", help="Where the model runs.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = flag(
        "auto", help="How exactly it runs; auto: bf16 on a GPU that has it, fp32 on a CPU."
    )
    compile: Compile = False
    store_dtype: StoreDtype = "float32"

    @model_validator(mode="after")
    def _of_an_array(self) -> ExtractOptions:
        index, count = self.shard_index, self.shard_count
        if (index is None) != (count is None):
            raise ValueError(f"{option('shard_index')} and {option('shard_count')} go together")
        if index is not None and count is not None and index >= count:
            raise ValueError(
                f"{option('shard_index', index)} is not below {option('shard_count', count)}: "
                "parts count from 0"
            )
        return self

    @property
    def division(self) -> Division | None:
        """Which part is extracted alone: that of a job, or of a machine; None for all.

        The machines that `torchrun` works on have no folder in common where the run directory is at
        an address, so that each makes a part.
        """
        from alphafix.remote import is_address

        if self.shard_index is not None and self.shard_count is not None:
            return Division(self.shard_index, self.shard_count)
        machines = os.environ.get("GROUP_WORLD_SIZE")
        if machines is not None and is_address(self.run):
            return Division(int(os.environ["GROUP_RANK"]), int(machines))
        return None

    @property
    def place(self) -> Path | None:
        """The run directory; of one part its own folder there, so that all may work at once."""
        from alphafix.remote import is_address

        division = self.division
        if division is None or is_address(self.run):
            return self.here
        return self.here / PARTS / division.folder

    @property
    def stays(self) -> bool:
        """See `CommandOptions.stays`; of what goes to an address nothing is left here."""
        from alphafix.remote import is_address

        return not is_address(self.run)

    @property
    def holds(self) -> bool:
        """See `CommandOptions.holds`; a part at an address is made in a folder of its machine."""
        from alphafix.remote import is_address

        return os.environ.get("LOCAL_RANK", "0") == "0" if is_address(self.run) else super().holds

    @property
    def here(self) -> Path:
        """The run directory; of one at an address the folder where this part is made."""
        from alphafix.remote import address_of, is_address

        division = self.division
        if division is None or not is_address(self.run):
            return self.run
        from alphafix.features.elsewhere import workplace

        return workplace(address_of(self.run).rstrip("/"), division.folder)

    def recorded(self) -> dict[str, Any]:
        """The options that decide the features, as JSON data for their provenance."""
        weights = None if self.weights is None else self.weights.name  # its hash is recorded too
        return {**super().recorded(), "weights": weights}
