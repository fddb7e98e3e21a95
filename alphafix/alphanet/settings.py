"""Everything that AlphaNet is told but its data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from alphafix.alphanet.trial import Hyper
from alphafix.errors import InputError, option
from alphafix.metrics.limits import Limits
from alphafix.values.head import Head

# Few-split samples of a handful of classes fill one batch: one step an epoch, 25 in all, in which
# hardly anything is learned. From 300 steps on more gain less than a point, on data of any size
# (examples/evidence/steps.py).
LEAST_STEPS = 12

RuleName = Literal["overall", "few", "harmonic", "balanced", "constrained", "none"]
Preset = Literal["paper", "official", "released"]
PoolName = Literal["neighbors", "neighbors+discriminant"]
HeldOutHead = Literal["ce", "crt", "ridge"]


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
            row to the network too and keeps the few-split biases; "released", the code as it
            runs: its record of the best epoch is the object that the next epoch overwrites, so
            that nothing is ever better than the first epoch that may be chosen, and that one,
            the 5th, is kept (without validation it is the last one there too); or None: the
            paper, but with an epoch of at least `LEAST_STEPS` steps, as the paper's own data
            sets (but for CIFAR-100-LT) have.
        pool: The rows that alpha combines: "neighbors", as in the paper, or
            "neighbors+discriminant", the class's own discriminant row beside them (see
            `alphafix.alphanet.pool`).
        include_self: Feed the class's own row to the network; None for the preset's way.
        learn_bias: Learn the few-split biases; None for the preset's way, where the head has any.
        hyper: Epochs, batch size, learning rate, hidden layers and budget of steps.
        select: What is to be greatest on validation (see `alphafix.metrics.selection.Rule`);
            "none": choose nothing, keep the last epoch of every trial, and give the first
            setting (as the paper's Tables A6 and A7 were made, of data without validation).
        limits: For "constrained": what may be lost, and how surely.
        ensemble: "mean" of the seeds' corrected rows, or the best "single" trial.
        calibrate: Add one scalar to all few-split logits, chosen on validation.
        holdout: Share of each class's training samples that are held out for validation.
        holdout_head: Where samples are held out: how a head is fitted anew without them, on which
            the setting is then chosen (see `alphafix.rivals.held_out`); None to choose with the
            given head, which was trained on them.
        allow_worse: Give the correction even where it does not beat the base model on the
            validation samples that it was chosen on.
        check_training: Without validation samples, see on the training samples as they were drawn
            whether the correction is worse than the base model. (Features of a network that was
            trained on the same samples cannot tell.)
        device: "auto", "cpu", "cuda" or "mps".
        memory: Bytes that the scores of training and of validation samples may take each;
            above, they are computed again when they are needed.
    """

    rhos: tuple[float, ...] = (0.5,)
    ks: tuple[int, ...] = ()
    seeds: tuple[int, ...] = tuple(range(10))
    metric: str | None = None
    preset: Preset | None = None
    pool: PoolName = "neighbors"
    include_self: bool | None = None
    learn_bias: bool | None = None
    hyper: Hyper = field(default_factory=Hyper)
    select: RuleName = "overall"
    limits: Limits = field(default_factory=Limits)
    ensemble: Literal["mean", "single"] = "mean"
    calibrate: bool = False
    holdout: float | None = None
    holdout_head: HeldOutHead | None = None
    allow_worse: bool = False
    check_training: bool = False
    device: str = "auto"
    memory: int = 2 << 30

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose on validation."""
        several = len(self.rhos) * max(len(self.ks), 1) > 1
        return (several and self.select != "none") or self.calibrate

    def hyper_for(self, head: Head, *, validated: bool) -> Hyper:
        """What all trials share, for this head.

        Args:
            head: The head.
            validated: Whether there are validation samples; without, the authors' code keeps the
                last epoch, as all presets do.

        Raises:
            InputError: If the head has no biases and some are to be learned or calibrated.
        """
        official = self.preset in ("official", "released")
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
        if self.preset == "released" and validated:
            # What is trained after the epoch that is kept would be thrown away.
            epochs = min(epochs, self.hyper.first_epoch)
        return replace(
            self.hyper,
            epochs=epochs,
            learn_bias=learn_bias and head.bias is not None,
            least_steps=max(self.hyper.least_steps, 0 if self.preset else LEAST_STEPS),
            include_self=official if self.include_self is None else self.include_self,
        )

    def of_trials(self) -> dict[str, Any]:
        """What decides a trial but its data and its spec, as JSON data."""
        held_out = None if self.holdout is None else [self.holdout, self.seeds[0]]
        names = ("metric", "preset", "pool", "include_self", "learn_bias")
        decisive = {name: getattr(self, name) for name in names}
        return {**decisive, "hyper": vars(self.hyper), "held_out": held_out}
