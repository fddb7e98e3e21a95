"""Heads that are fitted on frozen features after training: cRT, LWS, tau-norm and others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alphafix.errors import InputError, call, option
from alphafix.features.features import Features
from alphafix.oltr.models.heads import LinearForm
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.training.methods import MethodSpec
from alphafix.oltr.training.running import Running, head_inputs
from alphafix.oltr.training.splits import ImageSplits
from alphafix.rivals import fit_method
from alphafix.rivals.data import FitData
from alphafix.values.head import Head


def fit_head(
    method: MethodSpec, model: LongTailModel, images: ImageSplits, running: Running, *, seed: int
) -> LinearForm | None:
    """Fit the method's head on training features with test transforms.

    Args:
        method: The method; None is returned where it has no such head.
        model: The trained model.
        images: Training and validation images.
        running: Device and precision.
        seed: Seed of everything random.
    """
    if method.head_only is None:
        return None
    train = head_inputs(model, images.load("train"), running)
    val = head_inputs(model, images.load("val"), running)
    head = linear_head(*model.head.linear())
    size = len(images.classes)
    data = FitData(
        Features.of(train.features, train.labels, num_classes=size),
        Features.of(val.features, val.labels, num_classes=size),
        head,
        images.classes,
        seed=seed,
    )
    fitted = fit_method(method.head_only, data).apply(head)
    scale = np.float32(fitted.scale)
    bias = None if fitted.bias is None else torch.from_numpy(fitted.bias * scale)
    return torch.from_numpy(fitted.weight * scale), bias


def linear_head(weight: Tensor, bias: Tensor | None) -> Head:
    """A linear layer as a value."""
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
            f"{option('method', method.name)} chooses its settings on validation images",
            got=f"the splits {', '.join(splits)}",
            expected="a split val",
            todo=f"add one ({call('make-lt')} draws it), or choose another method",
        )
