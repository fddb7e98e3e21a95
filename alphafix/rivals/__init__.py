"""The post-hoc peers of AlphaNet: one interface, one entry each in `RIVALS`.

A rival is a function of the data that gives a `Fitted`: logits of features and, where the method
is a linear head, a `Correction` that can be patched into a checkpoint like AlphaNet's; or, where
it has settings to choose on validation, an `Offered` with all of them. A new one is such a
function in a module of this package, and an entry here. The entries are light, because
the command line reads them for its options; a module is loaded when its method is fitted.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alphafix.errors import InputError

if TYPE_CHECKING:
    from alphafix.rivals.data import FitData, Fitted, Offered
    from alphafix.values.correction import Correction


@dataclass(frozen=True)
class Rival:
    """A method.

    Attributes:
        name: Its name for the user.
        paper: Where it is from.
        function: Module of this package and function in it, like "closed_forms:tau_norm".
        arguments: What the function is told beside its data.
        linear: Whether its result is a linear head, which can be patched into a model.
        trains: Whether it trains by gradients; else it is a closed form with a scalar or two.
        compared: Whether a comparison, and the choice among all methods, has it unasked.
        cost: What fitting takes, in times of one trial of AlphaNet, as measured on the demo's
            features: how far a bar moves.
    """

    name: str
    paper: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    linear: bool = True
    trains: bool = False
    compared: bool = True
    cost: float = 0.25

    def offer(self, data: FitData, **more: Any) -> Offered:
        """Fit it, with all settings that validation can choose from.

        Args:
            data: Features, head and classes.
            **more: Other arguments of its function, such as steps.
        """
        from alphafix.rivals.data import Fitted, Offered

        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(f"alphafix.rivals.{module}"), name)
        found: Fitted | Offered = function(data, **self.arguments, **more)
        return Offered.of(data, [found]) if isinstance(found, Fitted) else found

    def fit(self, data: FitData, **more: Any) -> Fitted:
        """Fit it with the setting that validation chooses (for the arguments see `offer`).

        That is the largest few-split gain within the limits or, where no setting keeps them, what
        is nearest to that.
        """
        from alphafix.rivals.data import choose

        outcome = choose(data, [self.offer(data, **more)])
        return outcome.fitted or outcome.safest


def _ncm(features: str, distance: str = "euclidean", *, linear: bool = True) -> Rival:
    return Rival(
        f"ncm-{features}" + ("" if distance == "euclidean" else "-cosine"),
        "Kang et al. 2020, nearest class mean",
        "closed_forms:nearest_class_mean",
        {"features": features, "distance": distance},
        linear=linear,
    )


def _retrained(name: str, paper: str) -> Rival:
    return Rival(name, paper, "retrained:retrain", {"name": name}, trains=True, cost=8)


RIVALS: Mapping[str, Rival] = {
    rival.name: rival
    for rival in (
        Rival("few-bias", "the control of any correction", "closed_forms:few_bias"),
        Rival("tau-norm", "Kang et al. 2020, tau-normalisation", "closed_forms:tau_norm"),
        Rival(
            "logit-adjustment",
            "Menon et al. 2021, post hoc",
            "closed_forms:logit_adjustment",
        ),
        Rival("mean-directions", "this project", "discriminant:mean_directions"),
        Rival(
            "mean-directions-few",
            "this project",
            "discriminant:mean_directions",
            {"few_only": True},
        ),
        Rival("lda", "Friedman 1989, and this project", "discriminant:lda"),
        Rival("lda-few", "Friedman 1989, and this project", "discriminant:lda", {"few_only": True}),
        _ncm("plain"),
        _ncm("plain", "cosine"),
        _ncm("l2", linear=False),
        _ncm("l2", "cosine"),
        _ncm("cl2", linear=False),
        _ncm("cl2", "cosine"),
        Rival(
            "ncm-cosine",
            "this project",
            "closed_forms:nearest_class_mean",
            {"features": "plain", "distance": "unit"},
        ),
        _retrained("crt", "Kang et al. 2020, classifier re-training"),
        _retrained("lws", "Kang et al. 2020, learnable weight scaling"),
        _retrained("balanced-softmax", "Ren et al. 2020, balanced softmax"),
        _retrained("cost-sensitive", "Wang, Ramanan and Hebert 2017"),
        _retrained("focal", "Lin et al. 2017"),
        _retrained("ldam", "Cao et al. 2019, Eq. 12"),
        _retrained("lade", "Hong et al. 2021"),
        Rival(
            "weight-balancing",
            "Alshammari et al. 2022",
            "retrained:weight_balancing",
            trains=True,
            cost=40,
        ),
        Rival(
            "disalign",
            "Zhang et al. 2021",
            "disalign:disalign",
            linear=False,
            trains=True,
            cost=9,
        ),
        Rival("fslwf", "Gidaris and Komodakis 2018", "few_shot.fslwf:fslwf", trains=True, cost=15),
        Rival(
            "model-regression",
            "Wang and Hebert 2016",
            "few_shot.model_regression_svm:model_regression_svm",
            trains=True,
            compared=False,
            cost=65,
        ),
        Rival(
            "model-regression-lda",
            "Wang and Hebert 2016, and this project",
            "few_shot.model_regression:model_regression",
            trains=True,
            compared=False,
            cost=90,
        ),
        Rival(
            "metamodelnet",
            "Wang, Ramanan and Hebert 2017",
            "few_shot.metamodelnet_normalised:metamodelnet_normalised",
            trains=True,
            compared=False,
            cost=140,
        ),
        Rival(
            "metamodelnet-lda",
            "Wang, Ramanan and Hebert 2017, and this project",
            "few_shot.metamodelnet_normalised:metamodelnet_normalised",
            {"discriminants": True},
            trains=True,
            compared=False,
            cost=115,
        ),
        Rival(
            "metamodelnet-plain",
            "Wang, Ramanan and Hebert 2017, and this project",
            "few_shot.metamodelnet:metamodelnet",
            trains=True,
            compared=False,
            cost=115,
        ),
    )
}
"""All methods by name, the cheapest first."""

COMPARED = tuple(rival.name for rival in RIVALS.values() if rival.compared)
"""Methods that are compared unasked.

Model regression and MetaModelNet are not: on validation, within the limits, a closed form gained
more than any form of either each time (examples/evidence/few_shot.py)."""

LINEAR_METHODS = tuple(rival.name for rival in RIVALS.values() if rival.linear)
"""Methods that `fit_method` takes: their heads can be patched into a checkpoint."""

AUTO_METHODS = tuple(name for name in LINEAR_METHODS if name in COMPARED)
"""Methods that "auto" tries unasked, beside AlphaNet."""


def fit(name: str, data: FitData) -> Fitted:
    """Fit a method by name.

    Raises:
        InputError: If there is no such method.
    """
    if name not in RIVALS:
        raise InputError(
            f"there is no method {name}", expected=", ".join(RIVALS), todo="check the name"
        )
    return RIVALS[name].fit(data)


def linear_rival(name: str) -> Rival:
    """A method whose result is a linear head.

    Raises:
        InputError: If there is no such method, or it is no linear head.
    """
    if name not in LINEAR_METHODS:
        raise InputError(
            f"{name} is not a linear head, so it cannot be patched into a model"
            if name in RIVALS
            else f"there is no method {name}",
            expected=", ".join(LINEAR_METHODS),
            todo="choose one of these",
        )
    return RIVALS[name]


def fit_method(name: str, data: FitData) -> Correction:
    """Fit a linear method by name and return its correction.

    Args:
        name: One of `LINEAR_METHODS`.
        data: `alphafix.rivals.data.FitData(train, val, head, classes, ...)`.

    Raises:
        InputError: If the method is no linear head, or there is none of that name.
    """
    correction = linear_rival(name).fit(data).correction
    if correction is None:
        raise InputError(f"{name} gave no linear head")
    return correction
