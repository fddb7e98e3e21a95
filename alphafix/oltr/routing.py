"""RIDE's router: stop at the first expert that will do.

Wang et al. 2021, section 3.3 (expert assignment). Shapes: B samples, E experts, D feature
width of one, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.oltr.model import LongTailModel
from alphafix.oltr.ride import RideHead, RideNetwork

# Sizes of the router's two inputs: projected features, and the largest logits so far.
HIDDEN = 16
TOP = 5


class Decision(nn.Module):
    """Whether the next expert is needed, after k of them.

    r = w·[W f/‖W f‖, the largest logits, descending] + b, with f the feature of the k-th expert
    and the logits the mean of the first k.

    Args:
        width: D.
        top: How many logits it sees.
    """

    def __init__(self, width: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.project = nn.Linear(width, HIDDEN, bias=False)
        self.score = nn.Linear(HIDDEN + top, 1)

    def forward(self, feature: Tensor, logits: Tensor) -> Tensor:
        """Logit of "needed" of shape B, from B x D features and B x C logits."""
        hidden = functional.normalize(self.project(feature), dim=1)
        seen = torch.cat([hidden, logits.topk(self.top, dim=1).values], dim=1)
        score: Tensor = self.score(seen)
        return score.squeeze(1)


class RoutedRide(LongTailModel):
    """RIDE with a router; only the router learns.

    As a model it gives what all experts say together, which is the linear head that is
    exported; `routed` stops early.

    Args:
        network: Trained.
        head: Trained.
        width: D.
    """

    network: RideNetwork
    head: RideHead

    def __init__(self, network: RideNetwork, head: RideHead, width: int) -> None:
        super().__init__(network, head)
        self.requires_grad_(False)
        classes = len(head.classifiers[0].weight)
        self.router = nn.ModuleList(
            Decision(width, min(TOP, classes)) for _ in range(len(head.experts) - 1)
        )

    def train(self, mode: bool = True) -> RoutedRide:
        """The experts' normalisation layers stay as they were trained."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def routed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of as many experts as each image needs, by a probability of 1/2.

        Args:
            images: B x channels x H x W.

        Returns:
            B x C logits, the mean of the experts that were asked, and their number, int64 of
            shape B. Later experts see only the images that need them.
        """
        shared = self.network.backbone(images)
        places = torch.arange(len(images), device=images.device)
        used = torch.ones_like(places)
        sums = shared.new_zeros(len(images), len(self.head.classifiers[0].weight))
        for k, classifier in enumerate(self.head.classifiers):
            feature = functional.normalize(self.network.expert(k, shared[places]), dim=1)
            sums.index_add_(0, places, classifier(feature))
            used[places] = k + 1
            if k < len(self.router):
                needed = self.router[k](feature, sums[places] / (k + 1)) > 0
                places = places[needed]
            if len(places) == 0:
                break
        return sums / used[:, None], used


def needed_later(expert_logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the first k experts are wrong and one of the next is right, (E - 1) x B floats.

    "The first k" is their mean logits; a next one is right by itself.

    Args:
        expert_logits: E x B x C.
        labels: int64 of shape B.
    """
    count = len(expert_logits)
    steps = torch.arange(1, count + 1, device=expert_logits.device)[:, None, None]
    so_far = (expert_logits.cumsum(dim=0) / steps).argmax(dim=2) == labels
    alone = expert_logits.argmax(dim=2) == labels
    later = torch.stack([alone[k + 1 :].any(dim=0) for k in range(count - 1)])
    return (~so_far[:-1] & later).float()
