"""Everything that AlphaNet is told but its data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from alphafix.alphanet.training import Hyper
from alphafix.errors import InputError, option
from alphafix.values.head import Head

RuleName = Literal["overall", "few", "harmonic", "constrained"]
Preset = Literal["paper", "official", "released"]


@dataclass(frozen=True)
class FitSettings:
    """How AlphaNet is trained and chosen (defaults: the paper's).

    Attributes:
        rhos: Base samples a few-split sample, one or more settings.
        ks: Neighbours a class, one or more settings; none for those that are given.
        seeds: One trial each, for every rho and K.
        metric: Other neighbours than those that are given, "euclidean", "cosine" or "random"
            (drawn for each trial); None for those.
        preset: "paper"; "official", the authors' code as it is meant, which feeds the class's own
            row to the network too and keeps the few-split biases; or "released", the code as it
            runs: its record of the best epoch is the object that the next epoch overwrites, so
            that nothing is ever better than the first epoch that may be chosen, and that one,
            the 5th, is kept.
        include_self: Feed the class's own row to the network; None for the preset's way.
        learn_bias: Learn the few-split biases; None for the preset's way, where the head has any.
        hyper: Epochs, batch size, learning rate, hidden layers and budget of steps.
        select: What is to be greatest on validation (see `alphafix.metrics.selection.Rule`).
        max_overall_drop: For "constrained": points of overall accuracy that may be lost.
        ensemble: "mean" of the seeds' corrected rows, or the best "single" trial.
        calibrate: Add one scalar to all few-split logits, chosen on validation.
        holdout: Share of each class's training samples that are held out for validation.
        never_worse: Give no correction that is worse than the base model on the samples that
            it was chosen on: those of validation or, without any, the training samples as they
            were drawn.
        device: "auto", "cpu", "cuda" or "mps".
        memory: Bytes that the scores of training and of validation samples may take each;
            above, they are computed again when they are needed.
    """

    rhos: tuple[float, ...] = (0.5,)
    ks: tuple[int, ...] = ()
    seeds: tuple[int, ...] = tuple(range(10))
    metric: str | None = None
    preset: Preset = "paper"
    include_self: bool | None = None
    learn_bias: bool | None = None
    hyper: Hyper = field(default_factory=Hyper)
    select: RuleName = "overall"
    max_overall_drop: float | None = None
    ensemble: Literal["mean", "single"] = "mean"
    calibrate: bool = False
    holdout: float | None = None
    never_worse: bool = False
    device: str = "auto"
    memory: int = 2 << 30

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose on validation."""
        return len(self.rhos) * max(len(self.ks), 1) > 1 or self.calibrate

    def hyper_for(self, head: Head) -> Hyper:
        """What all trials share, for this head.

        Raises:
            InputError: If the head has no biases and some are to be learned or calibrated.
        """
        official = self.preset != "paper"
        learn_bias = not official if self.learn_bias is None else self.learn_bias
        if head.bias is None and (self.learn_bias or self.calibrate):
            raise InputError(
                "the head has no biases, so none can be learned or calibrated",
                got="a head without bias",
                expected="a linear layer with bias",
                todo=f"give {option('calibrate', False)} and no {option('learn_bias')}, or give "
                "the model's last layer a bias of zeros first",
            )
        epochs = self.hyper.epochs
        if self.preset == "released":
            # What is trained after the epoch that is kept would be thrown away.
            epochs = min(epochs, self.hyper.first_epoch)
        return replace(
            self.hyper,
            epochs=epochs,
            learn_bias=learn_bias and head.bias is not None,
            include_self=official if self.include_self is None else self.include_self,
        )

    def of_trials(self) -> dict[str, Any]:
        """What decides a trial but its data and its spec, as JSON data."""
        held_out = None if self.holdout is None else [self.holdout, self.seeds[0]]
        names = ("metric", "preset", "include_self", "learn_bias")
        decisive = {name: getattr(self, name) for name in names}
        return {**decisive, "hyper": vars(self.hyper), "held_out": held_out}
