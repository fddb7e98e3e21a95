"""From pictures to a `Problem`: a model, and the features that `alphafix extract` stores."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import DATA
from fine_tune import fine_tune
from lite0 import NAME, lite0
from packages import Package, announce
from pictures import BATCH, Source, read
from problems import Problem
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from alphafix.checkpoints import head_of
from alphafix.features.store import FeatureStore
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head


def linear_head(source: Source, C: float) -> nn.Module:
    """The ImageNet network with a head fitted on its features of the training pictures."""
    files, labels = source.listed("train")
    model: Any = lite0(len(source.classes))  # timm's networks have more than torch's type says
    rows = []
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            images = read(files[start : start + BATCH], source.size)
            rows.append(model.forward_head(model.forward_features(images), pre_logits=True))
    fitted = LogisticRegression(C=C, max_iter=2000).fit(torch.cat(rows).numpy(), labels)
    head = head_of(fitted)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(head.weight))
        model.classifier.bias.copy_(torch.from_numpy(head.bias_or_zeros))
    found: nn.Module = model
    return found


def save(model: nn.Module, path: Path) -> str:
    """Write a model as safetensors, and return the file's SHA-256."""
    part = path.with_suffix(".part")
    save_file(model.state_dict(), part)
    part.rename(path)
    return digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def extract(source: Source, weights: Path, run: Path) -> None:
    """`alphafix extract` of all splits; what is there already stays."""
    splits = [name for name in ("train", "test", "open") if (source.data / name).is_dir()]
    command = [sys.executable, "-m", "alphafix", "extract", "--run", str(run)]
    command += ["--backbone", f"timm:{NAME}", "--weights", str(weights), "--data", str(source.data)]
    command += ["--split", ",".join(splits), "--image-size", str(source.size), "--crop-pct", "1"]
    command += ["--class-order", "string"]  # as `Source.classes` has it
    subprocess.run(command, check=True, stdout=sys.stderr)


@dataclass(frozen=True)
class Recipe:
    """A data set of pictures.

    Attributes:
        name: Its name, and its folder's.
        make: Writes its pictures: their folder, the folder of packages.
        packages: What npm fetches for them.
        linear_size: Pixels of the network's input with a linear head.
        tuned_size: The same where all of the network is trained.
        C: Of the logistic regression that is the linear head.
        share: Of the pool that is validation.
    """

    name: str
    make: Callable[[Path, Path], None]
    packages: tuple[Package, ...]
    linear_size: int
    tuned_size: int
    C: float
    share: float

    def pictures(self, folder: Path = DATA) -> Path:
        """The folder of the pictures, which are made if they are not there."""
        images = folder / self.name / "images"
        if not images.is_dir():
            packages = folder / "packages"
            announce(f"{images.absolute()}: pictures are made", self.packages, packages)
            part = images.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            self.make(part, packages)
            part.rename(images)
        return images

    def stored(self, folder: Path = DATA, *, tuned: bool = False) -> Problem:
        """Features and head; pictures, model and features are made if they are not there.

        Args:
            folder: Where all data sets are kept.
            tuned: Whether the whole network is trained, not only a linear head.
        """
        own, name = folder / self.name, "tuned" if tuned else "linear"
        source = Source(self.pictures(folder), self.tuned_size if tuned else self.linear_size)
        weights = own / f"{name}.safetensors"
        if not weights.is_file():
            print(f"{weights.absolute()}: a model is trained", file=sys.stderr, flush=True)
            model = fine_tune(source) if tuned else linear_head(source, self.C)
            print(f"{weights}: SHA-256 {save(model, weights)}", file=sys.stderr)
        run = Run(own / f"{name}-run")
        if not run.path(CLASSES).is_file():
            extract(source, weights, run.folder)
        train, pool = (FeatureStore.open(run.features(split)) for split in ("train", "test"))
        motifs = [identifier.rpartition("--")[0] for identifier in pool.ids]
        return Problem(
            f"{self.name}, {name}",
            train,
            pool,
            self.share,
            Head.load(run.path(HEAD)),
            ClassTable.load(run.path(CLASSES)),
            np.unique(motifs, return_inverse=True)[1],
        )
