"""Options of `alphafix train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.neighbors.options import Metric
from alphafix.commands.options import Flag, Several, StageOptions
from alphafix.errors import option
from alphafix.loggers import LoggerName
from alphafix.rivals import LINEAR_METHODS

Rule = Literal["overall", "few", "harmonic", "constrained"]


class TrainOptions(StageOptions):
    """Options of `alphafix train`; the defaults are those of the AlphaNet paper."""

    method: Annotated[
        str,
        Flag(metavar="NAME"),
        Field(
            description="alphanet; another linear method, as `alphafix compare` lists them; or "
            "auto: the one with the largest few-split gain on validation that loses at most "
            "--max-overall-drop points (2) overall."
        ),
    ] = "alphanet"
    rho: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1000)], ...],
        Several,
        Flag(metavar="NUMBER[,NUMBER...]"),
        Field(
            min_length=1,
            description="Base samples per few-split sample in an epoch: small values favour "
            "the few split, large ones the base classes.",
        ),
    ] = (0.5,)
    seeds: Annotated[int, Field(ge=1, description="Trials of each setting.")] = 10
    seed: Annotated[int, Field(ge=0, description="First seed; the others count up.")] = 0
    k: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Several,
        Flag(("-k", "--k"), metavar="NUMBER[,NUMBER...]"),
        Field(description="Neighbours a class  [as `alphafix neighbors` found them]."),
    ] = ()
    metric: Annotated[
        Metric | None,
        Field(
            description="Other neighbours than those of `alphafix neighbors`; random ones "
            "are drawn for each trial."
        ),
    ] = None
    preset: Annotated[
        Literal["paper", "official"],
        Field(
            description="The paper, or the authors' released code: it feeds the class's own "
            "row to the network too and keeps the few-split biases."
        ),
    ] = "paper"
    include_self: Annotated[
        bool | None, Field(description="Feed the class's own row to the network  [preset].")
    ] = None
    learn_bias: Annotated[
        bool | None, Field(description="Learn the few-split biases  [preset].")
    ] = None
    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Several,
        Flag(metavar="NUMBER[,NUMBER...]"),
        Field(min_length=1, description="Widths of the hidden layers."),
    ] = (32, 32, 32)
    epochs: Annotated[int, Field(ge=1, description="Epochs.")] = 25
    first_epoch: Annotated[
        int, Field(ge=1, description="First epoch that may be chosen on validation.")
    ] = 5
    batch_size: Annotated[int, Field(ge=1, description="Samples a step.")] = 64
    lr: Annotated[float, Field(gt=0, description="Learning rate, x0.1 every 10 epochs.")] = 1e-3
    select: Annotated[
        Rule, Field(description="What is to be greatest on validation among the settings.")
    ] = "overall"
    max_overall_drop: Annotated[
        float | None,
        Field(
            ge=0,
            description="For --select constrained and other methods: points of overall "
            "accuracy that may be lost.",
        ),
    ] = None
    ensemble: Annotated[
        Literal["mean", "single"],
        Field(description="The mean of the seeds' corrected rows, or the best single trial."),
    ] = "mean"
    calibrate: Annotated[
        bool | None,
        Field(
            description="After training, add one scalar to all few-split logits, chosen on "
            "validation for the rule  [only with --select constrained]."
        ),
    ] = None
    holdout: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="Without validation features: hold this share of the training "
            "features of each class out for validation.",
        ),
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], Field(description="Where to train.")
    ] = "auto"
    memory: Annotated[
        float, Field(gt=0, description="GiB that scores may take before they are recomputed.")
    ] = 2.0
    max_steps: Annotated[
        int | None,
        Field(ge=1, description="Stop each trial after so many steps (to try a size out)."),
    ] = None
    logger: Annotated[
        tuple[LoggerName, ...],
        Several,
        Flag(metavar="NAME[,NAME]"),
        Field(
            description="Give the history of each trial to tensorboard (a folder in the run "
            "directory), to wandb (Weights & Biases; WANDB_MODE=offline needs no account), or both."
        ),
    ] = ()
    tensorboard: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="As --logger tensorboard, into this folder."),
    ] = None

    plan: Annotated[
        bool, Field(description="Print bytes and steps of the run, and do not train.")
    ] = False

    @model_validator(mode="after")
    def _rule_and_limit(self) -> TrainOptions:
        known = ("alphanet", "auto", *LINEAR_METHODS)
        if self.method not in known:
            raise ValueError(f"{option('method')} is one of {', '.join(known)}")
        if self.method != "alphanet":
            if self.holdout is not None:
                raise ValueError(
                    f"{option('holdout')} goes with {option('method', 'alphanet')} only"
                )
            return self
        if (self.select == "constrained") != (self.max_overall_drop is not None):
            raise ValueError(
                f"{option('select', 'constrained')} and {option('max_overall_drop')} go together"
            )
        if self.select == "few" and self.calibrate:
            raise ValueError(
                f"{option('calibrate')} with {option('select', 'few')} has no optimum: a larger "
                f"offset always wins; use {option('select', 'constrained')} and "
                f"{option('max_overall_drop')}"
            )
        return self

    @property
    def calibrated(self) -> bool:
        """Whether the few-split logits get an offset."""
        return self.select == "constrained" if self.calibrate is None else self.calibrate

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        beside = {"run", "overwrite", "logger", "tensorboard", "memory", "plan"}
        return self.model_dump(mode="json", exclude=beside)
