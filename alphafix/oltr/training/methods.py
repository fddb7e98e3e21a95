"""The methods that `train-oltr` trains, as data: which model, objective and sampler when.

A method is one or two training stages and, for some, a head that is fitted afterwards on the
frozen features by `alphafix.rivals`. This module loads no torch before a model is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alphafix.errors import InputError
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.training.sampling import Sampler

if TYPE_CHECKING:
    from alphafix.oltr.losses.objectives import Objective
    from alphafix.oltr.models.network import LongTailModel


@dataclass(frozen=True)
class StageSpec:
    """One training stage of a method.

    Attributes:
        model: "linear", "oltr", "ride" or "ride-routing".
        objective: "cross-entropy", "cost-sensitive", "focal", "lifted", "range", "oltr", "ride" or
            "routing".
        sampler: "plain" or "class_aware" (see `alphafix.oltr.training.sampling`).
        weight_decay: Weight decay of this stage, or None for the recipe's.
        centroids: Whether ``model.head.initialise`` is to be called before the stage, with the
            first stage's classifier and the class means (with test transforms).
    """

    model: str = "linear"
    objective: str = "cross-entropy"
    sampler: Sampler = "plain"
    weight_decay: float | None = None
    centroids: bool = False

    def build_model(self, spec: ModelSpec, previous: LongTailModel | None = None) -> LongTailModel:
        """Build the model with random weights from torch's generator."""
        from alphafix.oltr.models.building import build_model

        return build_model(self.model, spec, previous)

    def build_objective(self, model: LongTailModel, spec: ModelSpec) -> Objective:
        """Build the loss of this stage, with its own parameters if it has any."""
        from alphafix.oltr.losses.objectives import build_objective

        return build_objective(self.objective, model, spec)


@dataclass(frozen=True)
class MethodSpec:
    """A method of `train-oltr`.

    Attributes:
        name: What users call it.
        says: What it is, in a few words.
        stages: One or two training stages.
        head_only: Method of `alphafix.rivals` whose linear head is fitted on the frozen
            features of the last stage, or None.
    """

    name: str
    says: str
    stages: tuple[StageSpec, ...] = field(default=(StageSpec(),))
    head_only: str | None = None

    def build_untrained(self, spec: ModelSpec) -> LongTailModel:
        """The architecture of the last stage's model, for weights that are loaded into it."""
        first, *rest = self.stages
        model = first.build_model(spec)
        for stage in rest:
            model = stage.build_model(spec, model)
        return model


FIRST = StageSpec()
"""The first stage that most methods share: cross-entropy on the samples as they are."""


def _fine_tuned(objective: str) -> tuple[StageSpec, StageSpec]:
    # OLTR, section 4: the competitors get class-aware batches too.
    return FIRST, StageSpec(objective=objective, sampler="class_aware")


# Alshammari et al. 2022, section 5: the decay of their first stage.
STRONG_DECAY = 5e-3

_SPECS = (
    MethodSpec("plain", "cross-entropy, nothing else"),
    # The control for the three below it: what class-aware batches do by themselves.
    MethodSpec(
        "class-aware", "cross-entropy and class-aware batches", _fine_tuned("cross-entropy")
    ),
    MethodSpec("lifted", "lifted structure loss and class-aware batches", _fine_tuned("lifted")),
    MethodSpec("focal", "focal loss and class-aware batches", _fine_tuned("focal")),
    MethodSpec("range", "range loss and class-aware batches", _fine_tuned("range")),
    MethodSpec("fslwf", "few-shot learning without forgetting", head_only="fslwf"),
    MethodSpec(
        "oltr",
        "memory, modulated attention and reachability",
        (FIRST, StageSpec("oltr", "oltr", "class_aware", centroids=True)),
    ),
    MethodSpec("cross-entropy", "the same as plain"),
    MethodSpec(
        "cost-sensitive",
        "cross-entropy, classes weighed by inverse frequency",
        (StageSpec(objective="cost-sensitive"),),
    ),
    MethodSpec(
        "model-regression",
        "few-split support vector machines regressed to those of many samples",
        head_only="model-regression",
    ),
    MethodSpec(
        "metamodelnet",
        "few-split rows led by a chain of blocks to those of many samples",
        head_only="metamodelnet",
    ),
    MethodSpec("crt", "a new head from class-balanced samples", head_only="crt"),
    MethodSpec("lws", "one learned scale a class", head_only="lws"),
    MethodSpec("tau-norm", "rows divided by a power of their norm", head_only="tau-norm"),
    # Of the centred and normalised variants the one that is a linear head.
    MethodSpec("ncm", "nearest class mean", head_only="ncm-cl2-cosine"),
    MethodSpec("ride", "several experts, LDAM and diversity", (StageSpec("ride", "ride"),)),
    MethodSpec(
        "ride-routing",
        "RIDE, and a router that stops at the first expert that will do",
        (StageSpec("ride", "ride"), StageSpec("ride-routing", "routing", "class_aware")),
    ),
    MethodSpec(
        "weight-balancing",
        "strong weight decay, then class-balanced loss and MaxNorm",
        (StageSpec(weight_decay=STRONG_DECAY),),
        head_only="weight-balancing",
    ),
)

METHODS: dict[str, MethodSpec] = {spec.name: spec for spec in _SPECS}
"""Every method by name, those of OLTR's tables first."""


def method(name: str) -> MethodSpec:
    """Look a method up.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in METHODS:
        raise InputError(
            f"there is no method {name}", expected=", ".join(METHODS), todo="check the name"
        )
    return METHODS[name]
