"""What a reader of the documentation has: images in class folders, a model, features of it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from alphafix.commands import COMMANDS
from tests.common import make_problem
from tests.docs.blocks import REPOSITORY
from tests.docs.commands import run_alphafix
from tests.imports.projects import write_alphanet_folder

RECIPES = REPOSITORY / "examples" / "recipes"

BACKBONE = "resnet18"
NUM_CLASSES = 8
BASE = 6  # one more than the neighbours that are looked for
TRAIN = [20] * BASE + [3] * (NUM_CLASSES - BASE)
SEEN = 3  # images a class that the head is fitted to

# Logits so close together that the few steps of a small training give the few-split classes back
# what the head takes from them, and no base class suffers (as from half to twice these values).
LOGIT_SCALE = 20.0
HANDICAP = 16.0


def draw(label: int, rng: np.random.Generator) -> Image.Image:
    """A blurred patch whose colour and place tell the class."""
    angle = 2 * np.pi * label / NUM_CLASSES + rng.normal(scale=0.05)
    y, x = np.mgrid[:64, :64]
    middle = 32 + 18 * np.array([np.sin(angle), np.cos(angle)])
    blob = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / 120)
    color = 0.5 + 0.5 * np.array([np.cos(angle), np.sin(angle), np.cos(2 * angle)])
    image = 255 * blob[..., None] * color + rng.normal(scale=8, size=(64, 64, 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


EXTRACT = "alphafix extract --backbone timm:resnet18 --weights model.safetensors --data data"

FIX = COMMANDS["fix"].example

RECIPE = """\
stages:
  - extract:
      backbone: timm:resnet18
      weights: model.safetensors
      data: data
  - neighbors:
  - train:
      rho: 0.5
"""


def make_world(folder: Path) -> None:
    """Fill ``folder`` with what the examples of README.md and of --help name.

    Features of its images are the costly part and are extracted here, once, by the command that
    all of them give, which then finds them up to date.
    """
    make_images(folder / "data")
    make_model(folder / "model.safetensors", folder / "data")
    run_alphafix(shlex.split(EXTRACT)[1:], folder)
    shutil.copytree(folder / "alphafix-run", folder / "quarter-run")
    make_photos(folder / "photos")
    (folder / "recipe.yaml").write_text(RECIPE)
    problem = make_problem(num_classes=16)
    arrays: dict[str, Any] = {f"{name}_features": x for name, x in problem.features.items()}
    arrays |= {f"{name}_labels": y for name, y in problem.labels.items()}
    np.savez(folder / "features.npz", **arrays)
    head: dict[str, Any] = {"weight": problem.head.weight, "bias": problem.head.bias}
    np.savez(folder / "head.npz", **head)
    write_alphanet_folder(folder / "ImageNetLT", problem)
    shutil.copytree(
        RECIPES, folder / "examples" / "recipes", ignore=shutil.ignore_patterns("models", "runs")
    )


def make_fixed(world: Path, folder: Path) -> None:
    """What `alphafix fix` leaves there, the costliest of all examples, which two files give.

    It finds the features of the same images up to date.
    """
    work = folder / "work"
    shutil.copytree(world, work)
    shutil.copytree(work / "alphafix-run", work / "fixed")
    run_alphafix(shlex.split(FIX)[1:], work)


def make_demo(folder: Path) -> None:
    """What README.md's first command leaves."""
    run_alphafix(["demo"], folder)


def make_images(folder: Path) -> None:
    """Class folders of train, val and test."""
    rng = np.random.default_rng(0)
    for split, counts in {"train": TRAIN, "val": [2] * 8, "test": [2] * 8}.items():
        for label, count in enumerate(counts):
            place = folder / split / f"class_{label}"
            place.mkdir(parents=True)
            for index in range(count):
                draw(label, rng).save(place / f"{index:03d}.png")


def make_photos(folder: Path) -> None:
    """Class folders that are not divided into splits, of small images."""
    rng = np.random.default_rng(1)
    for label in range(16):
        place = folder / f"class_{label:02d}"
        place.mkdir(parents=True)
        for index in range(100):
            draw(label, rng).resize((32, 32)).save(place / f"{index:03d}.png")


def make_model(path: Path, data: Path) -> None:
    """A checkpoint whose head knows the classes, but puts the few-split ones at a disadvantage."""
    torch.manual_seed(0)
    model = timm.create_model(BACKBONE, num_classes=NUM_CLASSES).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    paths = [
        data / f"train/class_{label}/{index:03d}.png"
        for label in range(NUM_CLASSES)
        for index in range(SEEN)
    ]
    images = torch.stack([transform(Image.open(path)) for path in paths])
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
    _fit(model.get_classifier(), features.unflatten(0, (NUM_CLASSES, SEEN)))
    save_file(model.state_dict(), path)


def _fit(head: nn.Linear, features: torch.Tensor) -> None:
    """Linear discriminant analysis with a spherical covariance."""
    means = features.mean(1)
    middle = means.mean(0)
    rows = means - middle
    rows = rows * LOGIT_SCALE / (rows @ rows.T).diagonal().mean()
    biases = -((means + middle) / 2 * rows).sum(1)
    biases[BASE:] -= HANDICAP
    with torch.no_grad():
        head.weight.copy_(rows)
        head.bias.copy_(biases)
