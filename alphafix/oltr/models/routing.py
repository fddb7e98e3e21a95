"""RIDE's router: stop at the first expert that will do.

Wang et al. 2021, section 3.3 (expert assignment). Shapes: B samples, E experts, D feature
width of one, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.oltr.models.heads import Output
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.ride import RideHead, RideNetwork

# The authors' configurations (config_*_ride_ea.json): size of the projected feature, and how many
# of the largest logits are seen.
HIDDEN = 16
TOP = 30


class Router(nn.Module):
    """Whether the next expert is needed, after k of them.

    r = w·[the largest logits, descending; ReLU(W_k f + b_k)] + b, with f the normalised feature of
    the k-th expert and the logits the mean of the first k. w and b are common to all k, as in the
    authors' code (ea_resnet_cifar.py, which begins with He's normal distribution).

    Args:
        width: D.
        classes: C.
        experts: E.
    """

    def __init__(self, width: int, classes: int, experts: int) -> None:
        super().__init__()
        self.top = min(TOP, classes)
        self.hidden = nn.ModuleList(nn.Linear(width, HIDDEN) for _ in range(experts - 1))
        self.score = nn.Linear(self.top + HIDDEN, 1)
        for layer in (*self.hidden, self.score):
            nn.init.kaiming_normal_(layer.weight)

    def __len__(self) -> int:
        return len(self.hidden)

    def forward(self, after: int, feature: Tensor, logits: Tensor) -> Tensor:
        """Logit of "needed" of shape B.

        Args:
            after: Number of the last expert asked, from 0.
            feature: Its normalised features, B x D.
            logits: Mean logits of the experts asked, B x C.
        """
        hidden = functional.relu(self.hidden[after](feature))
        seen = torch.cat([logits.topk(self.top, dim=1).values, hidden], dim=1)
        score: Tensor = self.score(seen)
        return score.squeeze(1)


class RoutedRide(LongTailModel):
    """RIDE with a router; only the router learns.

    In training it gives what all experts say, from which the router learns. In evaluation each
    image asks as many experts as it needs, by a probability of 1/2, and gets the mean of their
    logits. That, too, is one linear head on its features: after k of E experts, these are the
    first k parts times E/k, and zeros for the rest. So a routed model is exported, corrected
    and patched like any other, and stays routed.

    Attributes:
        rows: Rows of the experts' classifiers as they were trained, E x C x D. They decide on the
            routing whatever becomes of the exported head, so that features do not depend on it.
    """

    network: RideNetwork
    head: RideHead
    rows: Tensor

    def __init__(self, network: RideNetwork, head: RideHead) -> None:
        super().__init__(network, head)
        self.requires_grad_(False)
        rows = torch.stack([classifier.folded() for classifier in head.classifiers])
        self.register_buffer("rows", rows)
        self.router = Router(rows.shape[2], rows.shape[1], len(rows))

    def train(self, mode: bool = True) -> RoutedRide:
        """The experts' normalisation layers stay as they were trained."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor) -> Output:
        """Map B x channels x H x W images to an output; routed in evaluation mode."""
        return super().forward(images) if self.training else self._routed(images)

    def _routed(self, images: Tensor) -> Output:
        """Ask expert after expert; later ones see only the images that need them."""
        shared = self.network.backbone(images)
        experts, classes, width = self.rows.shape
        places = torch.arange(len(images), device=images.device)
        used = torch.ones_like(places)
        sums = shared.new_zeros(len(images), classes, dtype=torch.float32)
        direct = shared.new_zeros(len(images), experts, width, dtype=torch.float32)
        for k, rows in enumerate(self.rows):
            part = self.network.expert(k, shared[places])
            feature = functional.normalize(part, dim=1)
            direct = direct.index_put((places, torch.full_like(places, k)), part.float())
            sums = sums.index_add(0, places, functional.linear(feature, rows).float())
            used[places] = k + 1
            if k < len(self.router):
                needed = self.router(k, feature, sums[places] / (k + 1)) > 0
                places = places[needed]
            if len(places) == 0:
                break
        share = experts / used[:, None, None]
        features = functional.normalize(direct, dim=2) * share
        return Output(
            logits=sums / used[:, None],
            direct=direct.flatten(1),
            features=features.flatten(1),
            experts=used,
        )


def needed_later(expert_logits: Tensor, labels: Tensor, *, alone: bool = False) -> Tensor:
    """1 where the first k experts are wrong and later help, (E - 1) x B floats.

    "The first k" is their mean logits. More help where the mean of more experts is right, as in
    the authors' code; or, ``alone``, where one of the next is right by itself, as in the paper
    (section 3.3).

    Args:
        expert_logits: E x B x C.
        labels: int64 of shape B.
        alone: Whether a later expert must be right by itself.
    """
    count = len(expert_logits)
    so_far = expert_logits.cumsum(dim=0).argmax(dim=2) == labels
    helps = expert_logits.argmax(dim=2) == labels if alone else so_far
    later = torch.stack([helps[k + 1 :].any(dim=0) for k in range(count - 1)])
    return (~so_far[:-1] & later).float()
