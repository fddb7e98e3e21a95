"""The post-hoc peers of AlphaNet: one small file each, one interface.

``fit(material) -> Fitted``: logits of features and, where the method is a linear head, a
`Correction` that can be patched into a checkpoint like AlphaNet's. Names and functions are
listed here; a method's file is loaded when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alphafix.errors import InputError

if TYPE_CHECKING:
    from alphafix.rivals.material import Fitted, Material
    from alphafix.values.correction import Correction

METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "few-bias": ("few_bias", {}),
    "tau-norm": ("tau_norm", {}),
    "logit-adjustment": ("logit_adjustment", {}),
    "mean-directions": ("mean_directions", {}),
    "mean-directions-few": ("mean_directions", {"few_only": True}),
    "ncm-plain": ("ncm", {"features": "plain"}),
    "ncm-plain-cosine": ("ncm", {"features": "plain", "distance": "cosine"}),
    "ncm-l2": ("ncm", {"features": "l2"}),
    "ncm-l2-cosine": ("ncm", {"features": "l2", "distance": "cosine"}),
    "ncm-cl2": ("ncm", {"features": "cl2"}),
    "ncm-cl2-cosine": ("ncm", {"features": "cl2", "distance": "cosine"}),
    "crt": ("crt", {}),
    "lws": ("lws", {}),
    "balanced-softmax": ("balanced_softmax", {}),
    "focal": ("focal", {}),
    "ldam": ("ldam", {}),
    "lade": ("lade", {}),
    "weight-balancing": ("weight_balancing", {}),
    "disalign": ("disalign", {}),
    "fslwf": ("fslwf", {}),
    "model-regression": ("model_regression", {}),
    "metamodelnet": ("metamodelnet", {}),
}
"""Module of this package and arguments of its ``fit`` by method, the cheapest first."""

NOT_LINEAR = frozenset({"ncm-l2", "ncm-cl2", "disalign"})
"""Methods whose result is no linear head, so that nothing can be patched."""

LINEAR_METHODS = tuple(name for name in METHODS if name not in NOT_LINEAR)
"""Methods that `fit_method` takes: their heads can be patched into a checkpoint."""

SIMPLE_METHODS = frozenset(
    {"few-bias", "tau-norm", "logit-adjustment", "mean-directions", "mean-directions-few"}
    | {name for name in METHODS if name.startswith("ncm")}
)
"""Methods without training: closed forms and one or two scalars."""


def fit(name: str, material: Material) -> Fitted:
    """Fit a method by name.

    Raises:
        InputError: If there is no such method.
    """
    if name not in METHODS:
        raise InputError(
            f"there is no method {name}", expected=", ".join(METHODS), todo="check the name"
        )
    module, arguments = METHODS[name]
    found: Fitted = importlib.import_module(f"alphafix.rivals.{module}").fit(material, **arguments)
    return found


def fit_method(name: str, material: Material) -> Correction:
    """Fit a linear method by name and return its correction.

    Args:
        name: One of `LINEAR_METHODS`.
        material: `alphafix.rivals.material.Material.of(train, val, head, classes, ...)`.

    Raises:
        InputError: If the method is no linear head, or there is none of that name.
    """
    correction = fit(name, material).correction
    if correction is None:
        raise InputError(
            f"{name} is not a linear head, so it cannot be patched into a model",
            expected=", ".join(LINEAR_METHODS),
            todo="choose one of these",
        )
    return correction
