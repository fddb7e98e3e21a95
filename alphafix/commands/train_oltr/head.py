"""Heads that are fitted on frozen features after training: cRT, LWS, tau-norm and others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.oltr.data import Images
from alphafix.oltr.methods import MethodSpec
from alphafix.oltr.metrics import Running
from alphafix.oltr.model import LongTailModel
from alphafix.oltr.outputs import features_of
from alphafix.rivals import fit_method
from alphafix.rivals.data import FitData
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

Linear = tuple[Tensor, "Tensor | None"]


def fit_head(
    method: MethodSpec,
    model: LongTailModel,
    load: Callable[[str], Images],
    classes: ClassTable,
    running: Running,
    *,
    seed: int,
) -> Linear | None:
    """Fit the method's head on training features with test transforms.

    Args:
        method: The method; None is returned where it has no such head.
        model: The trained model.
        load: Gives the images of a split.
        classes: The class table.
        running: Device and precision.
        seed: Seed of everything random.

    Raises:
        InputError: If there is no validation set, on which settings are chosen.
    """
    if method.head_only is None:
        return None
    train = features_of(model, load("train"), running)
    val = features_of(model, load("val"), running)
    head = linear_head(model)
    data = FitData(
        FeatureStore.of(train.features, train.labels, num_classes=len(classes)),
        FeatureStore.of(val.features, val.labels, num_classes=len(classes)),
        head,
        classes,
        seed=seed,
    )
    fitted = fit_method(method.head_only, data).apply(head)
    scale = np.float32(fitted.scale)
    bias = None if fitted.bias is None else torch.from_numpy(fitted.bias * scale)
    return torch.from_numpy(fitted.weight * scale), bias


def linear_head(model: LongTailModel) -> Head:
    """The plain linear head of a model."""
    weight, bias = model.head.linear()
    return Head(
        weight.detach().float().cpu().numpy(),
        None if bias is None else bias.detach().float().cpu().numpy(),
    )


def require_validation(method: MethodSpec, splits: tuple[str, ...]) -> None:
    """Check that there are validation images for a method that needs them.

    Raises:
        InputError: If not.
    """
    if method.head_only is not None and "val" not in splits:
        raise InputError(
            f"--method {method.name} chooses its settings on validation images",
            got=f"the splits {', '.join(splits)}",
            expected="a split val",
            todo="add one (`alphafix make-lt` draws it), or choose another method",
        )
