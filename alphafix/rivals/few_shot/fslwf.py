"""Few-shot learning without forgetting: rows from feature means and attention to base rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Fitted, linear
from alphafix.rivals.few_shot.shots import Shots
from alphafix.values.arrays import FloatArray, IntArray

STEPS = 600
RATES = (1e-3, 1e-2)

# Classes that one episode treats as few-split, and samples that it classifies.
NOVEL = 5
QUERIES = 256


class Generator(torch.nn.Module):
    """Makes a row from the samples of a class (Gidaris and Komodakis 2018, section 3.2).

    w = phi_avg * w_avg + phi_att * w_att with w_avg the mean of the normalised features and
    w_att = mean_i sum_b Att(phi_q z_i, k_b) w_b, Att the softmax over base classes of
    gamma cos(phi_q z_i, k_b).

    Args:
        base_rows: Base rows, B x D; they and the keys k_b start from their directions.
    """

    def __init__(self, base_rows: Tensor) -> None:
        super().__init__()
        width = base_rows.shape[1]
        self.base_rows = torch.nn.Parameter(functional.normalize(base_rows))
        self.keys = torch.nn.Parameter(functional.normalize(base_rows))
        self.phi_avg = torch.nn.Parameter(torch.ones(width))
        self.phi_att = torch.nn.Parameter(torch.ones(width))
        self.phi_q = torch.nn.Parameter(torch.eye(width))
        self.gamma = torch.nn.Parameter(torch.tensor(10.0))
        self.tau = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, support: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The row of a class, D, from its features, S x D.

        Args:
            support: The class's features.
            hidden: Base classes that attention must not see (those that play few-split
                classes in an episode), positions among the B.
        """
        z = functional.normalize(support)
        scores = (
            self.gamma * functional.normalize(z @ self.phi_q.T) @ functional.normalize(self.keys).T
        )
        if hidden is not None:
            scores = scores.index_fill(1, hidden, -torch.inf)
        attended = (scores.softmax(dim=1) @ functional.normalize(self.base_rows)).mean(dim=0)
        return self.phi_avg * z.mean(dim=0) + self.phi_att * attended

    def logits(self, features: Tensor, rows: Tensor) -> Tensor:
        """Tau cos(x, w): n x R logits."""
        return self.tau * functional.normalize(features) @ functional.normalize(rows).T


def fslwf(data: FitData, steps: int = STEPS) -> Fitted:
    """A cosine head: base rows trained on, few-split rows made by `Generator`.

    Trained in episodes in which some base classes play few-split classes (stage 2 of the
    paper; its stage 1 trains the backbone). The length of a feature is common to all classes,
    so that normalised rows rank as the cosine classifier does: a linear head without bias.
    """
    found = []
    for rate in RATES:
        rows = data.once(("fslwf", rate, steps), partial(_rows, data, rate, steps))
        settings = {"lr": rate}
        found.append(linear("fslwf", data, rows, np.zeros(len(rows)), settings=settings))
    return max(found, key=lambda one: one.val["overall"] or 0.0)


def _rows(data: FitData, rate: float, steps: int) -> FloatArray:
    """Train, and return all rows."""
    shots = Shots.of(data)
    base, few = data.classes.base, data.classes.few
    model = Generator(torch.from_numpy(data.head.weight[base]))
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    rng = np.random.default_rng(data.seed)
    for _ in range(steps):
        loss = _episode(model, data, shots, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    rows = torch.zeros(len(data.classes), data.head.width)
    with torch.no_grad():
        rows[base] = model.base_rows
        for label in few.tolist():
            rows[label] = model(torch.from_numpy(data.features[shots.groups.samples(label)]))
        made: FloatArray = (model.tau * functional.normalize(rows)).numpy()
    return made


def _episode(model: Generator, data: FitData, shots: Shots, rng: np.random.Generator) -> Tensor:
    """Loss of one episode: base classes, some of them known by few samples only."""
    base, few = data.classes.base, data.classes.few
    novel = rng.choice(len(base), size=max(1, min(NOVEL, len(base) // 2)), replace=False)
    hidden = torch.from_numpy(novel)
    count = int(rng.choice(data.counts[few]))
    made = [_draw(data, shots, int(base[p]), count, rng) for p in novel]
    rows = model.base_rows.index_copy(
        0, hidden, torch.stack([model(support, hidden) for support in made])
    )
    # Half of the samples are of the classes that play few-split ones.
    others = rng.integers(len(base), size=QUERIES // 2)
    places = np.concatenate([rng.choice(novel, size=QUERIES - len(others)), others])
    index = np.array([shots.draw(int(base[p]), 1, rng)[0] for p in places])
    logits = model.logits(torch.from_numpy(data.features[index]), rows)
    return functional.cross_entropy(logits, torch.from_numpy(places))


def _draw(data: FitData, shots: Shots, label: int, count: int, rng: np.random.Generator) -> Tensor:
    index: IntArray = shots.draw(label, count, rng)
    return torch.from_numpy(data.features[index])
