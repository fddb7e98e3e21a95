"""Files as other projects write them: with torch.save and pickle, under their own names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.common import Problem

State = dict[str, torch.Tensor]


def dump_features(path: Path, features: Any, labels: Any) -> Path:
    """What classifier-balancing's --save_feat writes, which AlphaNet reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"feats": features, "labels": list(labels), "idxs": np.arange(len(labels))}
    path.write_bytes(pickle.dumps(data, protocol=4))
    return path


def write_alphanet_folder(folder: Path, problem: Problem, *, parts: int = 1) -> None:
    """A dataset folder of AlphaNet's authors."""
    for split, features in problem.features.items():
        labels = problem.labels[split]
        for part, rows in enumerate(np.array_split(np.arange(len(labels)), parts)):
            name = f"{split}_{part}.pkl" if parts > 1 else f"{split}.pkl"
            place = folder / "features" / "crt" / name
            dump_features(place, torch.from_numpy(features[rows]), labels[rows].tolist())
    (folder / "classifiers").mkdir()
    head = {
        "weight": torch.from_numpy(problem.head.weight),
        "bias": torch.from_numpy(problem.head.bias_or_zeros),
    }
    torch.save(head, folder / "classifiers" / "crt.pth")
    (folder / "splits").mkdir()
    for split in ("few", "medium", "many"):
        text = "".join(f"{number}\n" for number in problem.classes.tier(split))
        (folder / "splits" / f"{split}.txt").write_text(text)


def save_networks(path: Path, body: State, classifier: State, **beside: Any) -> Path:
    """A final_model_checkpoint.pth of classifier-balancing or OLTR."""
    states = {
        "epoch": 10,
        "best_epoch": 9,
        "state_dict_best": {
            "feat_model": {f"module.{name}": tensor for name, tensor in body.items()},
            "classifier": {f"module.{name}": tensor for name, tensor in classifier.items()},
        },
        "best_acc": 0.5,
        "centroids": None,
        **beside,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(states, path)
    return path


class ConfigParser:
    """Stands in RIDE's checkpoints; weights_only refuses it."""

    def __init__(self) -> None:
        self.config = {"name": "RIDE"}


class NormedLinear(nn.Module):
    """RIDE's normalised head: D_e x C, columns of norm 1 when it runs."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        columns = nn.functional.normalize(self.weight, dim=0)
        return nn.functional.normalize(x, dim=1).mm(columns)


class RideBackbone(nn.Module):
    """The end of a RIDE model: a map and a head for each expert, logits averaged."""

    def __init__(self, inputs: int, width: int, classes: int, experts: int, norm: bool) -> None:
        super().__init__()
        self.layer3s = nn.ModuleList(nn.Linear(inputs, width) for _ in range(experts))
        make = NormedLinear if norm else nn.Linear
        self.linears = nn.ModuleList(make(width, classes) for _ in range(experts))
        self.s = 30 if norm else 1

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """N x E x D_e, as RIDE keeps them in `feat`."""
        return torch.stack([layer(x) for layer in self.layer3s], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        feats = self.features(x)
        outs = [head(feats[:, e]) * self.s for e, head in enumerate(self.linears)]
        return torch.stack(outs, dim=1).mean(dim=1)


class RideModel(nn.Module):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self.backbone = RideBackbone(*arguments, **options)


def save_ride(path: Path, model: RideModel, *, parallel: bool = False) -> Path:
    """A checkpoint of RIDE's trainer."""
    state = model.state_dict()
    if parallel:
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.save(
        {
            "arch": "ResNet32Model",
            "epoch": 200,
            "state_dict": state,
            "optimizer": optimizer.state_dict(),
            "monitor_best": 0.48,
            "config": ConfigParser(),
        },
        path,
    )
    return path
