"""Options of `alphafix train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from alphafix.commands.neighbors.options import Metric
from alphafix.commands.options import FeatureStageOptions, Several, flag
from alphafix.errors import option
from alphafix.loggers import LoggerName
from alphafix.rivals import LINEAR_METHODS

Rule = Literal["overall", "few", "harmonic", "constrained"]


class TrainOptions(FeatureStageOptions):
    """Options of `alphafix train`; the defaults are those of the AlphaNet paper."""

    INCIDENTAL = FeatureStageOptions.INCIDENTAL | {"logger", "tensorboard", "memory", "plan"}

    method: str = flag(
        "alphanet",
        help="alphanet; another linear method, as `alphafix compare` lists them; or "
        "auto: the one with the largest few-split gain on validation that loses at most "
        "--max-overall-drop points (2) overall.",
        metavar="NAME",
    )
    rho: Annotated[tuple[Annotated[float, Field(ge=0, le=1000)], ...], Several] = flag(
        (0.5,),
        help="Base samples per few-split sample in an epoch: small values favour "
        "the few split, large ones the base classes.",
        metavar="NUMBER[,NUMBER...]",
        min_length=1,
    )
    seeds: int = flag(10, help="Trials of each setting.", ge=1)
    seed: int = flag(0, help="First seed; the others count up.", ge=0)
    k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Several] = flag(
        (),
        help="Neighbours a class  [as `alphafix neighbors` found them].",
        flags=("-k", "--k"),
        metavar="NUMBER[,NUMBER...]",
    )
    metric: Metric | None = flag(
        None,
        help="Other neighbours than those of `alphafix neighbors`; random ones "
        "are drawn for each trial.",
    )
    preset: Literal["paper", "official", "released"] = flag(
        "paper",
        help="The paper; official, the authors' code, which feeds the class's own row to the "
        "network too and keeps the few-split biases; or released, that code as it runs, which "
        "always keeps the 5th epoch.",
    )
    include_self: bool | None = flag(
        None, help="Feed the class's own row to the network  [preset]."
    )
    learn_bias: bool | None = flag(None, help="Learn the few-split biases  [preset].")
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Several] = flag(
        (32, 32, 32),
        help="Widths of the hidden layers.",
        metavar="NUMBER[,NUMBER...]",
        min_length=1,
    )
    epochs: int = flag(25, help="Epochs.", ge=1)
    first_epoch: int = flag(5, help="First epoch that may be chosen on validation.", ge=1)
    batch_size: int = flag(64, help="Samples a step.", ge=1)
    lr: float = flag(1e-3, help="Learning rate, x0.1 every 10 epochs.", gt=0)
    select: Rule = flag("overall", help="What is to be greatest on validation among the settings.")
    max_overall_drop: float | None = flag(
        None,
        help="For --select constrained and other methods: points of overall "
        "accuracy that may be lost.",
        ge=0,
    )
    ensemble: Literal["mean", "single"] = flag(
        "mean", help="The mean of the seeds' corrected rows, or the best single trial."
    )
    calibrate: bool | None = flag(
        None,
        help="After training, add one scalar to all few-split logits, chosen on "
        "validation for the rule  [only with --select constrained].",
    )
    holdout: float | None = flag(
        None,
        help="Without validation features: hold this share of the training "
        "features of each class out for validation.",
        gt=0,
        lt=1,
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", help="Where to train.")
    memory: float = flag(2.0, help="GiB that scores may take before they are recomputed.", gt=0)
    max_steps: int | None = flag(
        None, help="Stop each trial after so many steps (to try a size out).", ge=1
    )
    logger: Annotated[tuple[LoggerName, ...], Several] = flag(
        (),
        help="Give the history of each trial to tensorboard (a folder in the run "
        "directory), to wandb (Weights & Biases; WANDB_MODE=offline needs no account), or both.",
        metavar="NAME[,NAME]",
    )
    tensorboard: Path | None = flag(
        None, help="As --logger tensorboard, into this folder.", metavar="DIR", writes=True
    )

    plan: bool = flag(False, help="Print bytes and steps of the run, and do not train.")

    @model_validator(mode="after")
    def _rule_and_limit(self) -> TrainOptions:
        known = ("alphanet", "auto", *LINEAR_METHODS)
        if self.method not in known:
            raise ValueError(f"{option('method')} is one of {', '.join(known)}")
        if self.method != "alphanet":
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
