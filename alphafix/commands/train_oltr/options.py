"""Options of `alphafix train-oltr`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import CommandOptions, Flag, Several
from alphafix.errors import option
from alphafix.loggers import LoggerName
from alphafix.oltr.training.methods import METHODS

# Which of the fields below decide nothing about the weights.
_INCIDENTAL = {
    "output",
    "overwrite",
    "open",
    "openmax",
    "openmax_rank",
    "odin",
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

Epochs = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class TrainOltrOptions(CommandOptions):
    """Options of `alphafix train-oltr`."""

    data: Annotated[
        str,
        Flag(metavar="SPEC"),
        Field(
            description="The images, in any form that `alphafix extract` takes; the splits train, "
            "val (on which the best epoch is chosen) and test (evaluated at the end)."
        ),
    ]
    recipe: Annotated[
        str,
        Flag(metavar="NAME|FILE"),
        Field(
            description="imagenet-lt, places-lt, ms1m-lt, sun-lt, cifar100-lt, or a YAML or JSON "
            "file with what is different from one of them."
        ),
    ]
    method: Annotated[
        str, Flag(metavar="NAME"), Field(description=f"What to train: {', '.join(METHODS)}.")
    ] = "oltr"
    output: Annotated[
        Path,
        Flag(metavar="DIR"),
        Field(description="Where the model, its checkpoints and its figures go."),
    ] = Path("oltr-run")
    overwrite: Annotated[
        bool, Field(description="Begin again where another training is there.")
    ] = False
    open: Annotated[
        str | None,
        Flag(metavar="SPEC"),
        Field(
            description="Images of unknown classes, for the evaluation at the end  "
            "[the data's split open]."
        ),
    ] = None
    preset: Annotated[
        Literal["official", "paper"],
        Field(description="OLTR as its authors' code has it, or as the paper says."),
    ] = "official"
    memory: Annotated[bool, Field(description="OLTR's memory feature.")] = True
    selector: Annotated[bool, Field(description="OLTR's concept selector.")] = True
    reachability: Annotated[bool, Field(description="OLTR's reachability.")] = True
    attention: Annotated[bool, Field(description="OLTR's modulated attention.")] = True
    attention_map: Annotated[
        Literal["self", "plain"],
        Field(description="What the attention weighs: the self-attention map, or the plain one."),
    ] = "self"
    experts: Annotated[int, Field(ge=1, description="Experts of RIDE.")] = 3
    epochs: Annotated[
        tuple[Epochs, ...],
        Several,
        Flag(metavar="N[,N]"),
        Field(description="Epochs of both stages, or of each  [the recipe's]."),
    ] = ()
    lr: Annotated[
        tuple[Rate, ...],
        Several,
        Flag(metavar="X[,X]"),
        Field(description="Learning rate of the head in both stages, or in each  [the recipe's]."),
    ] = ()
    feature_lr: Annotated[
        tuple[Rate, ...],
        Several,
        Flag(metavar="X[,X]"),
        Field(description="Learning rate of all before the head, likewise  [the recipe's]."),
    ] = ()
    batch_size: Annotated[
        int | None,
        Field(ge=1, description="Images a step, of all processes together  [the recipe's]."),
    ] = None
    seed: Annotated[int, Field(ge=0, description="Seed of everything random.")] = 0
    backbone: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(
            description="resnet10, resnet32 (CIFAR's), small (16 to 32 pixels) or timm:NAME  "
            "[the recipe's]."
        ),
    ] = None
    pretrained: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(
            description="Checkpoint that the backbone starts from; places-lt, sun-lt and ms1m-lt "
            "start from one of ImageNet."
        ),
    ] = None
    from_scratch: Annotated[
        bool, Field(description="Start from random weights where the recipe wants a checkpoint.")
    ] = False
    first_stage: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="Take the first stage from another output folder of this command."),
    ] = None
    width: Annotated[
        int | None, Field(ge=1, description="Width of OLTR's features  [the recipe's].")
    ] = None
    image_size: Annotated[
        int | None, Field(ge=8, description="Side of the model's input  [the recipe's].")
    ] = None
    channels: Annotated[
        Literal[1, 3] | None,
        Field(description="3 for RGB, 1 for grey  [the recipe's, or as the images are]."),
    ] = None
    few_below: Annotated[
        int | None,
        Field(ge=1, description="Classes with fewer training samples are few-split."),
    ] = None
    many_above: Annotated[
        int | None, Field(ge=0, description="Classes with more training samples are many-split.")
    ] = None
    openmax: Annotated[
        bool, Field(description="Evaluate the open set with OpenMax too (Table 3).")
    ] = False
    openmax_rank: Annotated[
        int,
        Field(
            ge=1,
            description="Classes whose logits OpenMax revises. Its authors' 10 can reject "
            "everything where there are few classes.",
        ),
    ] = 10
    odin: Annotated[bool, Field(description="Evaluate the open set with ODIN too (Table 2).")] = (
        False
    )
    open_threshold: Annotated[
        float,
        Field(ge=0, le=1, description="Softmax confidence under which a sample is unknown."),
    ] = 0.1
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
    workers: Annotated[
        int | None, Field(ge=0, description="Processes that load images  [one a core, at most 16].")
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], Field(description="Where the model is trained.")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Field(description="Automatic mixed precision; auto: bf16 on a GPU that has it."),
    ] = "auto"
    compile: Annotated[bool, Field(description="Compile the model first (torch.compile).")] = False
    logger: Annotated[
        tuple[LoggerName, ...],
        Several,
        Flag(metavar="NAME[,NAME]"),
        Field(
            description="Give the history to tensorboard (a folder in the output), to wandb "
            "(Weights & Biases; WANDB_MODE=offline needs no account), or both."
        ),
    ] = ()

    @model_validator(mode="after")
    def _known_method(self) -> TrainOltrOptions:
        if self.method not in METHODS:
            raise ValueError(f"{option('method')} {self.method} is none of {', '.join(METHODS)}")
        for name in ("epochs", "lr", "feature_lr"):
            if len(getattr(self, name)) > 2:
                raise ValueError(f"{option(name)} takes one value, or one a stage")
        if self.pretrained is not None and self.from_scratch:
            raise ValueError(
                f"{option('pretrained')} and {option('from_scratch')} exclude each other"
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the weights, as JSON data."""
        return self.model_dump(mode="json", exclude=_INCIDENTAL)
