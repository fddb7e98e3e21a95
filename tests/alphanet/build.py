"""Random problems for the objective, and the reduced data of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from alphafix.alphanet.sampling import Pool
from alphafix.alphanet.scores import ScoreLayout, Scores, reduce_scores
from alphafix.alphanet.specs import TrialSpec, make_trial
from alphafix.alphanet.trial import Hyper, SweepData, Trial
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setup:
    """Features, labels, class table and head of a random problem."""

    features: FloatArray
    labels: IntArray
    val_features: FloatArray
    val_labels: IntArray
    classes: ClassTable
    head: Head

    def layout(self, trials: Sequence[Trial]) -> ScoreLayout:
        near = np.concatenate([trial.neighbors.ravel() for trial in trials])
        return ScoreLayout.of(len(self.classes), self.classes.few, near)

    def scores(
        self,
        layout: ScoreLayout,
        *,
        val: bool = False,
        memory: int = 1 << 30,
        device: torch.device = CPU,
    ) -> Scores:
        features, labels = (
            (self.val_features, self.val_labels) if val else (self.features, self.labels)
        )
        half = len(features) // 2
        chunks = [(features[:half], labels[:half]), (features[half:], labels[half:])]
        return reduce_scores(
            chunks, len(features), self.head, layout, device=device, memory=memory, class_major=val
        )

    def data(
        self,
        trials: Sequence[Trial],
        *,
        val: bool = True,
        memory: int = 1 << 30,
        device: torch.device = CPU,
    ) -> SweepData:
        layout = self.layout(trials)
        positions = np.full(len(self.classes), -1, dtype=np.int64)
        positions[layout.columns] = np.arange(len(layout.columns))
        return SweepData(
            train=self.scores(layout, memory=memory, device=device),
            val=self.scores(layout, val=True, memory=memory, device=device) if val else None,
            weight=torch.from_numpy(self.head.weight).to(device),
            biases=torch.from_numpy(self.head.bias_or_zeros[self.classes.few]).to(device),
            scale=self.head.scale,
            few=torch.from_numpy(self.classes.few).to(device),
            positions=torch.from_numpy(positions).to(device),
        )

    def trial(
        self,
        hyper: Hyper,
        *,
        rho: float = 0.5,
        k: int = 3,
        seed: int = 0,
        neighbors: IntArray | None = None,
    ) -> Trial:
        if neighbors is None:
            rng = np.random.default_rng(seed)
            base = self.classes.base
            neighbors = np.stack([rng.choice(base, k, replace=False) for _ in self.classes.few])
        spec = TrialSpec(rho, k, seed)
        return make_trial(spec, neighbors, Pool.of(self.labels, self.classes), hyper)


def make_setup(
    *,
    num_classes: int = 9,
    few: int = 3,
    width: int = 6,
    bias: bool = True,
    scale: float = 1.0,
    seed: int = 0,
) -> Setup:
    """A problem whose few-split classes are not the last ones, with 4 samples each."""
    rng = np.random.default_rng(seed)
    counts = np.full(num_classes, 25)
    counts[rng.choice(num_classes, few, replace=False)] = 4
    labels = rng.permutation(np.repeat(np.arange(num_classes), counts)).astype(np.int64)
    val_labels = np.tile(np.arange(num_classes), 8).astype(np.int64)
    centers = rng.normal(size=(num_classes, width))

    def draw(wanted: IntArray) -> FloatArray:
        return (centers[wanted] + rng.normal(size=(len(wanted), width))).astype(np.float32)

    weight = (centers + 0.3 * rng.normal(size=centers.shape)).astype(np.float32)
    biases = rng.normal(size=num_classes).astype(np.float32)
    names = tuple(f"class {i}" for i in range(num_classes))
    return Setup(
        features=draw(labels),
        labels=labels,
        val_features=draw(val_labels),
        val_labels=val_labels,
        classes=ClassTable(names, counts),
        head=Head(weight, biases if bias else None, scale=scale),
    )
