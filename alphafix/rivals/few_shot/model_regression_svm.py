"""Model regression: from the classifier of few samples to the classifier of many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.model_regression import STEPS, TASK_WEIGHTS, objective
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, draw
from alphafix.rivals.few_shot.svm import support_vector_rows
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.labels import ByClass

# Samples of other classes that every machine is trained against.
NEGATIVES = 500

# Small-sample machines of each base class: pairs to learn from.
DRAWS = 3


def model_regression_svm(data: FitData, steps: int = STEPS) -> Offered:
    """A head of support vector machines: base rows w*, few-split rows T(w0).

    Wang and Hebert 2016, "Learning to learn: Model regression networks for easy small sample
    learning": T minimises sum_j 1/2 |T(w0_j) - w*_j|^2 + lambda sum_i [1 - y_i T(w0_j).x_i]_+ over
    base classes j, with w* the machine of all samples of a class against those of others, w0 one of
    as few as a few-split class has, and i the samples of w0; lambda is chosen on validation. T has
    four fully connected layers with leaky ReLU between them. The paper itself was not at hand: a
    public summary of it has the machines and the layers, one of MetaModelNet's paper that the task
    loss is that of the few samples; that it is the machines' own, the hinge, is from memory. The
    squares are means over classes and entries of standardised rows, and the hinge losses means over
    samples, so that lambda means the same at any size.
    """
    found = data.once(("model-regression", steps), partial(_rows, data, steps))
    return Offered.of(
        data,
        [
            linear(
                "model-regression",
                data,
                values[:, :-1],
                values[:, -1],
                settings={"task_weight": weight},
            )
            for weight, values in zip(TASK_WEIGHTS, found, strict=True)
        ],
    )


@dataclass(frozen=True)
class Pairs:
    """Machines of few samples, and those of many that they should become.

    Rows and biases are one vector of D + 1.

    Attributes:
        small: w0 of the base classes, float32 of shape B x `DRAWS` x (D + 1).
        targets: w*, float32 of shape B x (D + 1).
        drawn: The samples of the class in each of ``small``, int64 of shape B x `DRAWS` x S, -1 in
            places of machines with fewer.
        few: w0 of the few-split classes from all of their samples, float32 of shape F x (D + 1).
        negatives: Samples of any class, of which a class is held against those of the others.
    """

    small: Tensor
    drawn: IntArray
    targets: Tensor
    few: Tensor
    negatives: IntArray

    @classmethod
    def of(cls, data: FitData) -> Pairs:
        """Train all machines."""
        rng = np.random.default_rng(data.seed)
        groups = ByClass.of(data.labels, len(data.classes))
        size = min(NEGATIVES, len(data.labels))
        negatives = np.sort(rng.choice(len(data.labels), size=size, replace=False))

        def rows(classes: IntArray, positives: list[IntArray]) -> Tensor:
            others = (negatives[data.labels[negatives] != label] for label in classes.tolist())
            both = zip(positives, others, strict=True)
            return torch.from_numpy(support_vector_rows(data.features, both, seed=data.seed))

        base, few = data.classes.base, data.classes.few
        repeated = np.repeat(base, DRAWS)
        # As many samples as one of the few-split classes has, which the mapping is for.
        sizes = rng.choice(data.counts[few].astype(np.int64), size=len(repeated))
        drawn = [
            draw(groups, label, size, rng)
            for label, size in zip(repeated.tolist(), sizes.tolist(), strict=True)
        ]
        padded = np.full((len(drawn), sizes.max()), -1)
        for place, mine in enumerate(drawn):
            padded[place, : len(mine)] = mine
        return cls(
            rows(repeated, drawn).reshape(len(base), DRAWS, -1),
            padded.reshape(len(base), DRAWS, -1),
            rows(base, [groups.samples(label) for label in base.tolist()]),
            rows(few, [groups.samples(label) for label in few.tolist()]),
            negatives,
        )

    def standard(self, rows: Tensor) -> Tensor:
        """Rows in units in which the target rows have mean 0 and deviation 1 on every axis."""
        return (rows - self.targets.mean(dim=0)) / self._spread()

    def original(self, rows: Tensor) -> Tensor:
        """The inverse of `standard`."""
        return rows * self._spread() + self.targets.mean(dim=0)

    def _spread(self) -> Tensor:
        spread = self.targets.std(dim=0)
        return torch.where(spread > 0, spread, torch.ones_like(spread))


def hinge_loss(rows: Tensor, own: Tensor, present: Tensor, others: Tensor, apart: Tensor) -> Tensor:
    """Mean of [1 - y w.x]_+ over samples of each class, y = 1, and of others, y = -1.

    Args:
        rows: w of R classes, R x (D + 1).
        own: Samples of each, R x S x (D + 1).
        present: 1 for a sample, 0 for what only fills the place of one, R x S.
        others: Samples of any class, M x (D + 1).
        apart: 1 where the sample is not of the class, else 0, R x M.
    """
    right = functional.relu(1 - (own @ rows[:, :, None])[:, :, 0]) * present
    wrong = functional.relu(1 + rows @ others.T) * apart
    return (right.sum() + wrong.sum()) / (present.sum() + apart.sum())


def _rows(data: FitData, steps: int) -> list[FloatArray]:
    """Rows with their biases, C x (D + 1), with each of `TASK_WEIGHTS`."""
    pairs = Pairs.of(data)
    return [_trained(data, pairs, weight, steps) for weight in TASK_WEIGHTS]


def _trained(data: FitData, pairs: Pairs, task_weight: float, steps: int) -> FloatArray:
    rng = np.random.default_rng(data.seed)
    base, few = data.classes.base, data.classes.few
    model = network(pairs.targets.shape[1], data.seed)
    small, targets = pairs.standard(pairs.small), pairs.standard(pairs.targets)
    features = torch.from_numpy(data.features)
    others = functional.pad(features[pairs.negatives], (0, 1), value=1.0)
    apart = torch.from_numpy(data.labels[pairs.negatives] != base[:, None]).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for _ in range(steps):
        data.budget.tick()
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        draws = rng.integers(DRAWS, size=len(places))
        rows, index = model(small[places, draws]), torch.from_numpy(pairs.drawn[places, draws])
        own = functional.pad(features[index.clamp_min(0)], (0, 1), value=1.0)
        present = (index >= 0).float()
        task_loss = hinge_loss(pairs.original(rows), own, present, others, apart[places])
        loss = objective(rows, targets[places], task_loss, task_weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    rows = torch.empty(len(data.classes), pairs.targets.shape[1])
    rows[base] = pairs.targets
    with torch.no_grad():
        rows[few] = pairs.original(model(pairs.standard(pairs.few)))
    values: FloatArray = rows.numpy()
    return values


def network(width: int, seed: int) -> torch.nn.Sequential:
    """T: four layers as wide as its input, leaky ReLU between them, drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[torch.nn.Module] = [torch.nn.Linear(width, width)]
        for _ in range(3):
            layers += [torch.nn.LeakyReLU(0.01), torch.nn.Linear(width, width)]
        return torch.nn.Sequential(*layers)
