"""Heads: direct features in, `Output` out. Each one ends in a linear operation.

Shapes: B samples, D feature width, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError
from alphafix.oltr.models.memory import Memory
from alphafix.oltr.models.output import Output
from alphafix.oltr.models.presets import OFFICIAL, Ablations, Preset
from alphafix.oltr.models.squash import squash

LinearForm = tuple[Tensor, Tensor | None]


class Head(nn.Module):
    """What all heads have in common."""

    def forward(self, direct: Tensor) -> Output:
        """Map B x D direct features to an output."""
        raise NotImplementedError

    def linear(self) -> LinearForm:
        """Weight C x D and bias C (or None) of the plain linear head on `Output.features`."""
        raise NotImplementedError


class LinearHead(Head):
    """A linear layer with bias.

    Args:
        width: D.
        classes: C.
    """

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
    """Logits s · x·w_c/‖w_c‖, without bias; rows start as U(±1/√D) (OLTR, Eq. 6).

    Args:
        width: D.
        classes: C.
        scale: s.
    """

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

    Args:
        width: D.
        classes: C.
        preset: The reading of the method.
        ablations: Which parts are in.

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

    def initialise(
        self, stage_one_weight: Tensor, stage_one_bias: Tensor | None, centroids: Tensor
    ) -> None:
        """Start the second stage from the first one.

        Args:
            stage_one_weight: Weight of the first stage's classifier, C x D.
            stage_one_bias: Its bias, C, or None (then 0).
            centroids: Class means of the direct features, C x D.

        Raises:
            InputError: If a shape differs or a centroid is not finite.
        """
        self.start_hallucinator(stage_one_weight, stage_one_bias)
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

    @torch.no_grad()
    def start_hallucinator(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set the hallucinator to the first stage's classifier, where the preset says so.

        Args:
            weight: C x D.
            bias: C, or None (then 0).

        Raises:
            InputError: If the shape differs.
        """
        hallucinator = self.memory.hallucinator
        if hallucinator is None or not self.preset.hallucinator_from_stage_one:
            return
        _require_shape("the classifier of the first stage", weight, hallucinator.weight)
        hallucinator.weight.copy_(weight)
        hallucinator.bias.zero_()
        if bias is not None:
            hallucinator.bias.copy_(bias)


def _require_shape(what: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise InputError(
            f"{what} does not fit the memory",
            got=" x ".join(map(str, tensor.shape)),
            expected=f"C x D = {' x '.join(map(str, like.shape))}",
            todo="give both stages the same classes and the same feature width",
        )
