"""Options of `alphafix train-oltr`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import (
    ClassMap,
    CommandOptions,
    Compile,
    ListRoot,
    NameOrder,
    Several,
    Workers,
    flag,
)
from alphafix.errors import option
from alphafix.loggers import LoggerName
from alphafix.oltr.training.methods import METHODS
from alphafix.openset.odin import STEP, TEMPERATURE

Epochs = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Threshold = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]


class TrainOltrOptions(CommandOptions):
    """Options of `alphafix train-oltr`."""

    ELSEWHERE = frozenset({"root"})

    INCIDENTAL = frozenset(
        {
            "output",
            "overwrite",
            "open",
            "openmax",
            "openmax_rank",
            "odin",
            "odin_temperature",
            "odin_step",
            "open_classes",
            "open_val",
            "open_threshold",
            "workers",
            "device",
            "compile",
            "logger",
            # Where files lie does not matter; hashes of what is in them are recorded.
            "root",
            "pretrained",
            "first_stage",
            "class_map",
        }
    )

    data: str = flag(
        help="The images, in any form that `alphafix extract` takes; the splits train, "
        "val (on which the best epoch is chosen) and test (evaluated at the end).",
        metavar="SPEC",
    )
    recipe: str = flag(
        help="imagenet-lt, places-lt, ms1m-lt, sun-lt, cifar100-lt, or a YAML or JSON "
        "file with what is different from one of them.",
        metavar="NAME|FILE",
    )
    method: str = flag(
        "oltr",
        help=f"What to train: {', '.join(METHODS)}.",
        metavar="NAME",
        complete="oltr_methods",
    )
    output: Path = flag(
        Path("oltr-run"),
        help="Where the model, its checkpoints and its figures go.",
        metavar="DIR",
        writes=True,
    )
    overwrite: bool = flag(False, help="Begin again where another training is there.")
    open: str | None = flag(
        None,
        help="Images of unknown classes, for the evaluation at the end  [the data's split open].",
        metavar="SPEC",
    )
    preset: Literal["official", "paper"] = flag(
        "official", help="OLTR as its authors' code has it, or as the paper says."
    )
    memory: bool = flag(True, help="OLTR's memory feature.")
    selector: bool = flag(True, help="OLTR's concept selector.")
    reachability: bool = flag(True, help="OLTR's reachability.")
    attention: bool = flag(True, help="OLTR's modulated attention.")
    attention_map: Literal["self", "plain"] = flag(
        "self", help="What the attention weighs: the self-attention map, or the plain one."
    )
    experts: int = flag(3, help="Experts of RIDE.", ge=1)
    epochs: Annotated[tuple[Epochs, ...], Several] = flag(
        (), help="Epochs of both stages, or of each  [the recipe's].", metavar="N[,N]"
    )
    lr: Annotated[tuple[Rate, ...], Several] = flag(
        (),
        help="Learning rate of the head in both stages, or in each  [the recipe's].",
        metavar="X[,X]",
    )
    feature_lr: Annotated[tuple[Rate, ...], Several] = flag(
        (), help="Learning rate of all before the head, likewise  [the recipe's].", metavar="X[,X]"
    )
    batch_size: int | None = flag(
        None, help="Images a step, of all processes together  [the recipe's].", ge=1
    )
    seed: int = flag(0, help="Seed of everything random.", ge=0)
    backbone: str | None = flag(
        None,
        help="resnet10, resnet32 (CIFAR's), small (16 to 32 pixels) or timm:NAME  [the recipe's].",
        metavar="NAME",
    )
    pretrained: Path | None = flag(
        None,
        help="Checkpoint that the backbone starts from; places-lt, sun-lt and ms1m-lt "
        "start from one of ImageNet.",
        metavar="FILE",
    )
    from_scratch: bool = flag(
        False, help="Start from random weights where the recipe wants a checkpoint."
    )
    first_stage: Path | None = flag(
        None, help="Take the first stage from another output folder of this command.", metavar="DIR"
    )
    width: int | None = flag(None, help="Width of OLTR's features  [the recipe's].", ge=1)
    image_size: int | None = flag(None, help="Side of the model's input  [the recipe's].", ge=8)
    channels: Literal[1, 3] | None = flag(
        None, help="3 for RGB, 1 for grey  [the recipe's, or as the images are]."
    )
    few_below: int | None = flag(
        None, help="Classes with fewer training samples are few-split.", ge=1
    )
    many_above: int | None = flag(
        None, help="Classes with more training samples are many-split.", ge=0
    )
    openmax: bool = flag(False, help="Evaluate the open set with OpenMax too (Table 3).")
    openmax_rank: int = flag(
        10,
        help="Classes whose logits OpenMax revises. Its authors' 10 can reject "
        "everything where there are few classes.",
        ge=1,
    )
    odin: bool = flag(False, help="Evaluate the open set with ODIN too (Table 2).")
    odin_temperature: Annotated[tuple[Rate, ...], Several] = flag(
        (TEMPERATURE,),
        help="ODIN's temperature. Of several, and of several steps, the pair of the least "
        "detection error on validation and --open-val is taken (the table's dagger).",
        metavar="T[,T...]",
        min_length=1,
    )
    odin_step: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Several] = flag(
        (STEP,),
        help="ODIN's step on the images, of their range 0 to 1.",
        metavar="X[,X...]",
        min_length=1,
    )
    open_classes: Annotated[tuple[Epochs, ...], Several] = flag(
        (),
        help="Evaluate on so many of the unknown classes, too (Figure 8 c); a folder is a class.",
        metavar="N[,N...]",
    )
    open_val: str | None = flag(
        None,
        help="Images of unknown classes that are neither trained on nor evaluated: the threshold "
        "auto is chosen with them.",
        metavar="SPEC",
    )
    open_threshold: Threshold = flag(
        0.1,
        help="Softmax confidence under which a sample is unknown; auto: that of the largest "
        "F-measure on validation and --open-val, or without these twice what a guess has.",
        metavar="NUMBER|auto",
    )
    class_order: NameOrder = None
    class_map: ClassMap = None
    root: ListRoot = None
    workers: Workers = None
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", help="Where the model is trained.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = flag(
        "auto", help="Automatic mixed precision; auto: bf16 on a GPU that has it."
    )
    compile: Compile = False
    logger: Annotated[tuple[LoggerName, ...], Several] = flag(
        (),
        help="Give the history to tensorboard (a folder in the output), to wandb "
        "(Weights & Biases; WANDB_MODE=offline needs no account), or both.",
        metavar="NAME[,NAME]",
    )

    @property
    def place(self) -> Path | None:
        """The output folder, in which one training works at a time."""
        return self.output

    @model_validator(mode="after")
    def _known_method(self) -> TrainOltrOptions:
        if self.method not in METHODS:
            raise ValueError(f"{option('method')} {self.method} is none of {', '.join(METHODS)}")
        for name in ("epochs", "lr", "feature_lr"):
            if len(getattr(self, name)) > 2:
                raise ValueError(f"{option(name)} takes one value, or one a stage")
        several = len(self.odin_temperature) * len(self.odin_step) > 1
        if several and (not self.odin or self.open_val is None):
            raise ValueError(
                f"several of {option('odin_temperature')} or {option('odin_step')} take "
                f"{option('odin', True)} and {option('open_val')}, on which one is chosen"
            )
        if self.pretrained is not None and self.from_scratch:
            raise ValueError(
                f"{option('pretrained')} and {option('from_scratch')} exclude each other"
            )
        return self
