"""Options of `alphafix train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from alphafix.commands.neighbors.options import Metric
from alphafix.commands.options import FeatureStageOptions, Several, flag
from alphafix.errors import option
from alphafix.loggers import LoggerName
from alphafix.metrics.confidence import DEFAULT_CONFIDENCE
from alphafix.rivals import LINEAR_METHODS

LIMITS = ("max_overall_drop", "max_base_drop", "max_class_drop")

Rule = Literal["overall", "few", "harmonic", "balanced", "constrained", "none"]


class TrainOptions(FeatureStageOptions):
    """Options of `alphafix train`; the defaults are those of the AlphaNet paper."""

    INCIDENTAL = FeatureStageOptions.INCIDENTAL | {"logger", "tensorboard", "memory", "plan"}

    method: str = flag(
        "alphanet",
        help="alphanet; another linear method, as `alphafix compare` lists them; or "
        "auto: lda, unless others surely gain more for the few split on validation within the "
        "limits (--max-overall-drop 2); of these, the one that makes its samples the likeliest.",
        metavar="NAME",
        complete="methods",
    )
    methods: Annotated[tuple[str, ...], Several] = flag(
        (),
        help="What --method auto chooses from: alphanet and other linear methods  [all but the "
        "forms of model-regression and metamodelnet].",
        metavar="NAME[,NAME...]",
        complete="linear_methods",
    )
    time: float | None = flag(
        None,
        help="Seconds that the methods of --method auto that train may take, AlphaNet apart; those "
        "that are not done by then are named as left out  [as long as it takes].",
        gt=0,
        metavar="SECONDS",
    )
    rho: Annotated[tuple[Annotated[float, Field(ge=0, le=1000)], ...], Several] = flag(
        (0.5,),
        help="Samples of other classes per few-split sample in an epoch: small values favour "
        "the few split, large ones the others.",
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
    preset: Literal["paper", "official", "released"] | None = flag(
        None,
        help="The paper to the letter; official, the authors' code, which feeds the class's own "
        "row to the network too and keeps the few-split biases; or released, that code as it "
        "runs, which always keeps the 5th epoch  [the paper, but small data take several passes "
        "an epoch, for at least 12 steps].",
    )
    pool: Literal["neighbors", "neighbors+discriminant"] = flag(
        "neighbors",
        help="Rows that AlphaNet combines: those of the neighbours, as in the paper; or the "
        "class's own discriminant row beside them, which gains more on most data. --method auto "
        "tries both.",
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
    select: Rule = flag(
        "overall",
        help="What is to be greatest on validation among the settings; constrained, which a limit "
        "implies: few-split accuracy within the limits; none: no choice, the last epoch of every "
        "trial, and the first setting is the correction.",
    )
    max_overall_drop: float | None = flag(
        None,
        help="Points of overall accuracy that may be lost on fresh samples.",
        ge=0,
    )
    max_base_drop: float | None = flag(
        None, help="The same for the medium and many classes together.", ge=0
    )
    max_class_drop: float | None = flag(
        None, help="The same for any single class; takes many validation samples a class.", ge=0
    )
    confidence: float = flag(
        DEFAULT_CONFIDENCE,
        help="Probability with which the limits hold on fresh samples, as many as validation has, "
        "the choice among all settings included; at 0.5 they hold on validation, no more.",
        ge=0.5,
        lt=1,
    )
    allow_worse: bool = flag(
        False,
        help="Give the correction even if the base model is better on validation; without, the "
        "base model is then the result.",
    )
    at: str | None = flag(
        None,
        help="A point of the whole trade-off on validation: few=PERCENT, overall=POINTS (change "
        "against the base model) or t=NUMBER (what few-split logits get). A correction that is "
        "there is moved to it without training again.",
        metavar="POINT",
    )
    ensemble: Literal["mean", "single"] = flag(
        "mean", help="The mean of the seeds' corrected rows, or the best single trial."
    )
    calibrate: bool | None = flag(
        None,
        help="After training, add one scalar to all few-split logits, chosen on "
        "validation for the rule  [only within limits].",
    )
    holdout: float | None = flag(
        None,
        help="Without validation features: hold this share of the training "
        "features of each class out for validation. The head was trained on them, so that limits, "
        "offsets and other methods take --holdout-head.",
        gt=0,
        lt=1,
    )
    holdout_head: Literal["ce", "crt", "ridge"] | None = flag(
        None,
        help="Choose the setting on a head that is refitted without the held-out samples, then "
        "make it for the given head: ce, cross-entropy on samples as they come; crt, on classes "
        "drawn evenly; ridge, least squares. Take what the head was trained by.",
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

    @model_validator(mode="before")
    @classmethod
    def _implied_rule(cls, given: object) -> object:
        """A limit without a rule asks for what AlphaNet's settings give within it."""
        if not isinstance(given, dict) or "select" in given:
            return given
        other = given.get("method", "alphanet") != "alphanet"
        if other or all(given.get(name) is None for name in LIMITS):
            return given
        return {**given, "select": "constrained"}

    @model_validator(mode="after")
    def _rule_and_limit(self) -> TrainOptions:
        if self.at is not None:
            from alphafix.values.curve import Point  # which loads NumPy, as --help need not

            Point.parse(self.at)
        known = ("alphanet", "auto", *LINEAR_METHODS)
        if self.method not in known:
            raise ValueError(f"{option('method')} is one of {', '.join(known)}")
        if (self.methods or self.time is not None) and self.method != "auto":
            raise ValueError(
                f"{option('methods')} and {option('time')} go with {option('method', 'auto')}"
            )
        if self.methods and self.holdout is not None:
            raise ValueError(f"{option('methods')} does not go with {option('holdout')}")
        unknown = [name for name in self.methods if name not in ("alphanet", *LINEAR_METHODS)]
        if unknown:
            raise ValueError(
                f"{option('methods')} are of alphanet, {', '.join(LINEAR_METHODS)}; "
                f"{unknown[0]} is none"
            )
        if self.holdout_head is not None and self.holdout is None:
            raise ValueError(f"{option('holdout_head')} goes with {option('holdout', 0.2)}")
        if self.select == "none" and (self.method != "alphanet" or self.calibrate):
            raise ValueError(
                f"{option('select', 'none')} is for {option('method', 'alphanet')} without "
                f"{option('calibrate')}: all others choose on validation"
            )
        if self.method != "alphanet":
            return self
        limits = [name for name in LIMITS if getattr(self, name) is not None]
        if self.select == "constrained" and not limits:
            raise ValueError(
                f"{option('select', 'constrained')} and a limit such as {option(LIMITS[0])} go "
                "together"
            )
        if self.select != "constrained" and limits:
            raise ValueError(
                f"{option(limits[0])} goes with {option('select', 'constrained')}, which it "
                f"implies where no rule is given, not with {option('select', self.select)}"
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
