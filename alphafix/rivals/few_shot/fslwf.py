"""Few-shot learning without forgetting: rows from feature means and attention to base rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Fitted, linear
from alphafix.rivals.few_shot.shots import draw_each
from alphafix.rivals.training import Adam
from alphafix.values.arrays import FloatArray
from alphafix.values.labels import ByClass

STEPS = 600
RATES = (1e-3, 1e-2)

# Classes that one episode treats as few-split, and samples that it classifies.
NOVEL = 5
QUERIES = 256


class Generator(torch.nn.Module):
    """Makes the row of a class from its samples (Gidaris and Komodakis 2018, section 3.2).

    w = phi_avg * w_avg + phi_att * w_att with w_avg the mean of the normalised features and
    w_att = mean_i sum_b Att(phi_q z_i, k_b) w_b, Att the softmax over base classes of
    gamma cos(phi_q z_i, k_b). Held against the authors' code (FewShotWithoutForgetting), which
    draws keys and base rows at random and adds a bias to phi_q: its stage 1 trains these rows,
    which a trained head has.

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
        """The row of a class, D, from its features, S x D (or of R classes, from R x S x D).

        Args:
            support: The class's features.
            hidden: Base classes that attention must not see (those that play few-split
                classes in an episode), positions among the B.
        """
        z = functional.normalize(support, dim=-1)
        queries = functional.normalize(z @ self.phi_q.T, dim=-1)
        scores = self.gamma * queries @ functional.normalize(self.keys).T
        if hidden is not None:
            scores = scores.index_fill(-1, hidden, -torch.inf)
        attended = (scores.softmax(dim=-1) @ functional.normalize(self.base_rows)).mean(dim=-2)
        return self.phi_avg * z.mean(dim=-2) + self.phi_att * attended

    def logits(self, features: Tensor, rows: Tensor) -> Tensor:
        """Tau cos(x, w): n x R logits."""
        return self.tau * functional.normalize(features) @ functional.normalize(rows).T


def fslwf(data: FitData, steps: int = STEPS) -> Fitted:
    """A cosine head: base rows trained on, few-split rows made by `Generator`.

    Trained in episodes in which some base classes play few-split classes (stage 2 of the
    paper; its stage 1 trains the backbone). The length of a feature is common to all classes,
    so that normalised rows rank as the cosine classifier does: a linear head without bias.
    """
    rows = data.once(("fslwf", steps), partial(_rows, data, steps))
    found = [
        linear("fslwf", data, one, np.zeros(len(one)), settings={"lr": rate})
        for one, rate in zip(rows, RATES, strict=True)
    ]
    return max(found, key=lambda one: one.val["overall"] or 0.0)


def _rows(data: FitData, steps: int) -> list[FloatArray]:
    """All rows, with each of `RATES`."""
    base, rng = data.classes.base, np.random.default_rng(data.seed)
    groups = ByClass.of(data.labels, len(data.classes))
    models = [Generator(torch.from_numpy(data.head.weight[base])) for _ in RATES]
    optimisers = [Adam(model.parameters(), rate) for model, rate in zip(models, RATES, strict=True)]
    for _ in range(steps):
        data.budget.tick()
        episode = Episode.drawn(data, groups, rng)
        for model, optimiser in zip(models, optimisers, strict=True):
            optimiser.step(episode.loss(model))
    return [_made(model, data, groups) for model in models]


def _made(model: Generator, data: FitData, groups: ByClass) -> FloatArray:
    """The rows of all classes that a trained generator makes, C x D."""
    rows = torch.zeros(len(data.classes), data.head.width)
    with torch.no_grad():
        rows[data.classes.base] = model.base_rows
        for label in data.classes.few.tolist():
            rows[label] = model(torch.from_numpy(data.features[groups.samples(label)]))
        made: FloatArray = (model.tau * functional.normalize(rows)).numpy()
    return made


@dataclass(frozen=True)
class Episode:
    """Base classes, some of them known by few samples only.

    Attributes:
        novel: Those that play few-split classes, positions among the B, int64 of shape R.
        support: Their samples, float32 of shape R x S x D.
        queries: Samples to classify, float32 of shape n x D.
        labels: Their classes, positions among the B, int64 of shape n.
    """

    novel: Tensor
    support: Tensor
    queries: Tensor
    labels: Tensor

    @classmethod
    def drawn(cls, data: FitData, groups: ByClass, rng: np.random.Generator) -> Episode:
        """Draw the next one."""
        base, few = data.classes.base, data.classes.few
        novel = rng.choice(len(base), size=max(1, min(NOVEL, len(base) // 2)), replace=False)
        count = int(rng.choice(data.counts[few]))
        support = draw_each(groups, base[novel], count, rng)
        # Half of the samples are of the classes that play few-split ones.
        others = rng.integers(len(base), size=QUERIES // 2)
        places = np.concatenate([rng.choice(novel, size=QUERIES - len(others)), others])
        queries = draw_each(groups, base[places], 1, rng)[:, 0]
        return cls(
            torch.from_numpy(novel),
            torch.from_numpy(data.features[support]),
            torch.from_numpy(data.features[queries]),
            torch.from_numpy(places),
        )

    def loss(self, model: Generator) -> Tensor:
        """Cross-entropy of the queries with the rows that the generator makes."""
        made = model(self.support, self.novel)
        rows = model.base_rows.index_copy(0, self.novel, made)
        return functional.cross_entropy(model.logits(self.queries, rows), self.labels)
