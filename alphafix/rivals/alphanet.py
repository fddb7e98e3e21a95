"""AlphaNet in the form of the rivals, on the given head or on that of another method."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from alphafix.alphanet.combine import candidates
from alphafix.alphanet.prepare import Source, prepare, renumbered, seen, whole
from alphafix.alphanet.sampling import Pool
from alphafix.alphanet.scores import Layout
from alphafix.alphanet.sweep import make_trial, neighbors_of, run_sweep, settings
from alphafix.alphanet.training import Hyper
from alphafix.errors import InputError
from alphafix.features.features import Features
from alphafix.progress import Progress, silent
from alphafix.rivals.few_bias import offset
from alphafix.rivals.material import Fitted, Material, linear
from alphafix.values.arrays import FloatArray64
from alphafix.values.correction import Correction, Trials

# Trials that train together on a CPU; more gain nothing.
TOGETHER = 10

# Bytes that the reduced scores of training or validation samples may take.
MEMORY = 2 << 30


def train_trials(
    train: Features,
    val: Features,
    material: Material,
    *,
    rhos: Sequence[float],
    k: int,
    seeds: Sequence[int],
    metric: str = "euclidean",
    progress: Progress = silent,
) -> Trials:
    """Train AlphaNet with the paper's settings for several rho and seeds.

    Args:
        train: Training features.
        val: Validation features, by which each trial chooses its epoch.
        material: The head and the class table.
        rhos: Base samples a few-split sample.
        k: Neighbours a class.
        seeds: One trial each, for every rho.
        metric: "euclidean", "cosine" or "random" (drawn for each trial).
        progress: Told the steps.
    """
    head, classes = material.head, material.classes
    # A head without biases keeps having none.
    hyper = Hyper(learn_bias=head.bias is not None)
    wanted = settings(rhos, [k], seeds)
    pool = Pool.of(train.labels, classes)
    neighbors = [neighbors_of(setting, material.means, classes, metric) for setting in wanted]
    trials = [
        make_trial(setting, found, pool, hyper)
        for setting, found in zip(wanted, neighbors, strict=True)
    ]
    layout = Layout.of(
        len(classes), classes.few, np.concatenate([found.ravel() for found in neighbors])
    )
    index = seen(trials)
    data = prepare(
        Source(train, index),
        whole(val),
        head,
        classes,
        layout,
        device=torch.device("cpu"),
        memory=MEMORY,
        progress=silent,
    )
    with tempfile.TemporaryDirectory() as folder:
        return run_sweep(
            wanted,
            renumbered(trials, index),
            data,
            classes,
            hyper,
            most=TOGETHER,
            keep=Path(folder),
            made_from="",
            progress=progress,
        )


def fitted(name: str, material: Material, trials: Trials) -> list[Fitted]:
    """One method for each rho: the mean of its seeds' corrected rows."""
    head, few = material.head, material.classes.few
    found = []
    for one in candidates(trials, ensemble="mean"):
        rows, biases = one.rows(head.weight, few), one.biases
        found.append(
            linear(
                f"{name} rho {one.rho:g}",
                material,
                rows * head.scale,
                biases * head.scale,
                classes=few,
                settings={"rho": one.rho, "k": one.k, "seeds": len(one.trials)},
            )
        )
    return found


def offered(correction: Correction, material: Material) -> Fitted:
    """A correction that was trained elsewhere, to be chosen from or compared with.

    Raises:
        InputError: If it belongs to a head of another shape.
    """
    logits = correction.apply(material.head).logits
    return Fitted(
        correction.method, logits, dict(correction.chosen), material.validate(logits), correction
    )


def calibrated(found: Fitted, material: Material) -> Fitted:
    """A linear method with one more scalar on its few-split logits (see `few_bias`)."""
    correction = found.correction
    if correction is None:
        return found
    head = correction.apply(material.head)
    extra = offset(material, material.val_logits(head.logits))
    changed = np.union1d(correction.classes, material.classes.few)
    biases: FloatArray64 = head.bias_or_zeros.astype(np.float64) * head.scale
    biases[material.classes.few] += extra
    return linear(
        f"{found.method} + few-bias",
        material,
        head.weight[changed] * head.scale,
        biases[changed],
        classes=changed,
        settings={**found.settings, "offset": extra},
    )


def on_top(
    found: Fitted,
    train: Features,
    val: Features,
    material: Material,
    *,
    rho: float,
    k: int,
    seeds: Sequence[int],
) -> Fitted:
    """AlphaNet on the head of another linear method; its rows count from the given head.

    Raises:
        InputError: If the other method is no linear head.
    """
    if found.correction is None:
        raise InputError(f"{found.method} is not a linear head, so AlphaNet cannot correct it")
    head = found.correction.apply(material.head)
    # Its own rule is not used: only AlphaNet's choice of an epoch looks at validation.
    inner = replace(material, head=head)
    trials = train_trials(train, val, inner, rhos=[rho], k=k, seeds=seeds)
    (one,) = fitted("alphanet", inner, trials)
    if one.correction is None:
        raise InputError("AlphaNet gave no correction")
    final = one.correction.apply(head)
    changed = np.union1d(found.correction.classes, material.classes.few)
    return linear(
        f"alphanet on {found.method}",
        material,
        final.weight[changed] * head.scale,
        final.bias_or_zeros[changed] * head.scale,
        classes=changed,
        settings={"rho": rho, "k": k, "seeds": len(seeds), "below": found.settings},
    )
