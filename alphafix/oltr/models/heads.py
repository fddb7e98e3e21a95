"""Heads: direct features in, `Output` out. Each one ends in a linear operation.

Shapes: B samples, D feature width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError
from alphafix.oltr.models.memory import Memory
from alphafix.oltr.models.spec import OFFICIAL, Ablations, Preset

LinearForm = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Output:
    """Everything that a model says about B images.

    Attributes:
        logits: B x C.
        direct: Direct features, B x D: what the network gives and the head takes.
        features: B x D, what enters the head's last, linear operation (in OLTR the squashed
            meta-embedding; in a plain linear head the direct features).
        meta: Meta-embeddings before the squashing (OLTR, Eq. 2), B x D; None without a memory.
        memory: Coefficients o of the memory's classes (OLTR, Eq. 1), B x C; None without one.
        expert_logits: Logits of E experts, E x B x C; None if there is only one.
        experts: How many experts each image asked, of shape B; None without a router.
    """

    logits: Tensor
    direct: Tensor
    features: Tensor
    meta: Tensor | None = None
    memory: Tensor | None = None
    expert_logits: Tensor | None = None
    experts: Tensor | None = None


class Head(nn.Module):
    """What all heads have in common."""

    def forward(self, direct: Tensor) -> Output:
        """Map B x D direct features to an output."""
        raise NotImplementedError

    def linear(self) -> LinearForm:
        """Weight C x D and bias C (or None) of the plain linear head on `Output.features`."""
        raise NotImplementedError


class LinearHead(Head):
    """A linear layer with bias, from D features to C logits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, direct: Tensor) -> Output:
        """Map B x D direct features to an output."""
        return Output(logits=self.fc(direct), direct=direct, features=direct)

    def linear(self) -> LinearForm:
        """Weight C x D and bias C."""
        return self.fc.weight, self.fc.bias


class CosineClassifier(nn.Module):
    """Logits scale · x·w_c/‖w_c‖, without bias; rows start as U(±1/√D) (OLTR, Eq. 6)."""

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(classes, width).uniform_(-bound, bound))
        self.scale = scale

    def folded(self) -> Tensor:
        """Weight of the linear layer that gives the same logits, C x D."""
        return self.scale * functional.normalize(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Map B x D features, of the length that they are to have, to B x C logits."""
        return functional.linear(features, self.folded())


class OLTRHead(Head):
    """Memory, squashing and cosine classifier (OLTR, Section 3).

    The centroids are a parameter, so that DDP synchronises them and optimisers move them, but
    their gradient comes from the centroid loss alone (`alphafix.oltr.losses.objectives`).

    Attributes:
        centroids: The visual memory M, C x D.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        preset: Preset = OFFICIAL,
        ablations: Ablations = Ablations(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.preset = preset
        self.centroids = nn.Parameter(torch.randn(classes, width))
        self.memory = Memory(width, classes, preset, ablations)
        self.classifier = CosineClassifier(width, classes, preset.cosine_scale)

    def forward(self, direct: Tensor) -> Output:
        """Map B x D direct features to an output."""
        meta, coefficients = self.memory(direct, self.centroids.detach())
        features = squash(meta, self.preset.squash)
        return Output(
            logits=self.classifier(features),
            direct=direct,
            features=features,
            meta=meta,
            memory=coefficients,
        )

    def linear(self) -> LinearForm:
        """Weight C x D, no bias."""
        return self.classifier.folded(), None

    @torch.no_grad()
    def initialise(self, weight: Tensor, bias: Tensor | None, centroids: Tensor) -> None:
        """Start the second stage from the first one; the hallucinator where the preset says so.

        Args:
            weight: Weight of the first stage's classifier, C x D.
            bias: Its bias, C, or None (then 0).
            centroids: Class means of the direct features, C x D.

        Raises:
            InputError: If a shape differs or a centroid is not finite.
        """
        hallucinator = self.memory.hallucinator
        if hallucinator is not None and self.preset.hallucinator_from_stage_one:
            _require_shape("the classifier of the first stage", weight, hallucinator.weight)
            hallucinator.weight.copy_(weight)
            hallucinator.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
        self.start_centroids(centroids)

    @torch.no_grad()
    def start_centroids(self, centroids: Tensor) -> None:
        """Set the centroids to class means, C x D.

        Raises:
            InputError: If the shape differs or one is not finite.
        """
        _require_shape("the table of class means", centroids, self.centroids)
        finite = torch.isfinite(centroids).all(1)
        if not bool(finite.all()):
            raise InputError(
                "the class means are not all finite",
                got=f"{int((~finite).sum())} of {len(centroids)} with nan or inf",
                expected="finite centroids",
                todo="check the learning rate of the first stage",
            )
        self.centroids.copy_(centroids)


def squash(embeddings: Tensor, form: Literal["quadratic", "linear"]) -> Tensor:
    """Shrink small embeddings to almost nothing and large ones to almost unit length (Eq. 6).

    With n = ‖v‖, "quadratic" is n²/(1 + n²) · v/n (the paper's Eq. 6) and "linear" is
    n/(1 + n) · v/n (the official code). The division by n is carried out on paper, so that
    v = 0 gives 0 and a finite gradient.

    Args:
        embeddings: v, float of shape B x D.
        form: How the length depends on n.

    Returns:
        float of shape B x D, of 32 bits at least: squares of lengths overflow in fewer.
    """
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    length: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    if form == "linear":
        return embeddings / (1 + length)
    return embeddings * (length / (1 + length.square()))


def _require_shape(what: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise InputError(
            f"{what} does not fit the memory",
            got=" x ".join(map(str, tensor.shape)),
            expected=f"C x D = {' x '.join(map(str, like.shape))}",
            todo="give both stages the same classes and the same feature width",
        )
