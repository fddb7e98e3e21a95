"""Train the demonstration's base model on Glyphs-LT: cross entropy, then cRT.

Two stages, as in Kang et al. 2020 ("Decoupling representation and classifier for
long-tailed recognition"): the whole network with instance-balanced sampling, then a new
head with class-balanced sampling on features that stay as they are (cRT).

    python examples/glyphs_lt/train_base.py --seed 0

writes ``base-crt.safetensors`` (the network with the cRT head), ``base-ce-head.safetensors``
(the head of the first stage) and ``base-accuracies.json``. Shapes: N samples, C classes,
D feature width.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.demo.glyphs import ARCHIVE, Glyphs, GlyphSplit, load_glyphs
from alphafix.demo.model import GlyphNet, normalize
from alphafix.files import write_json, write_tensors
from alphafix.values.classes import ClassTable

BATCH = 128
WARMUP_SHARE = 0.15
DATA_FOLDER = Path(__file__).resolve().parents[2] / "alphafix" / "demo" / "data"

# Head name -> "val" or "test" -> class split -> percent.
Accuracies = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Options:
    """What the two stages are trained with."""

    seed: int
    epochs: int
    head_epochs: int
    learning_rate: float
    weight_decay: float
    threads: int
    data: Path | None
    out: Path


@dataclass(frozen=True)
class Samples:
    """One split: N x 1 x 16 x 16 inputs (or N x D features) and N labels."""

    inputs: Tensor
    labels: Tensor

    @classmethod
    def from_split(cls, split: GlyphSplit) -> Samples:
        """Normalise a split's images."""
        images = normalize(torch.from_numpy(split.images))
        return cls(images, torch.from_numpy(split.labels).long())


@dataclass(frozen=True)
class Base:
    """What training gives: the network with its cRT head, the first head, and accuracies."""

    model: GlyphNet
    ce_head: nn.Linear
    accuracies: Accuracies


def augment(images: Tensor) -> Tensor:
    """Scale, stretch, slant and shift every image a little, at random.

    Args:
        images: N x 1 x 16 x 16, normalised.

    Returns:
        The same shape; what moves in at the border is background.
    """
    count = len(images)
    scale = 1 + 0.12 * _symmetric(count)
    stretch = 1 + 0.08 * _symmetric(count)
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0] = scale * stretch
    transform[:, 1, 1] = scale / stretch
    transform[:, 0, 1] = 0.1 * torch.randn(count).clamp(-2, 2)
    transform[:, :, 2] = 0.1 * _symmetric(count, 2)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    # grid_sample pads with zero, so background has to be zero while it runs.
    background = normalize(torch.zeros(1, 1, 1, dtype=torch.uint8)).item()
    moved = functional.grid_sample(images - background, grid, align_corners=False)
    return moved + background


def _symmetric(*shape: int) -> Tensor:
    """Draw uniformly from [-1, 1]."""
    return torch.rand(*shape) * 2 - 1


def train_network(model: GlyphNet, train: Samples, val: Samples, options: Options) -> None:
    """Train the whole network with cross entropy on the long-tailed samples as they are."""
    steps = len(train.labels) // BATCH
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=options.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=options.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, options.epochs * steps, pct_start=WARMUP_SHARE
    )
    started = time.monotonic()
    for epoch in range(1, options.epochs + 1):
        model.train()
        order = torch.randperm(len(train.labels))[: steps * BATCH]
        for batch in torch.split(order, BATCH):
            images = augment(train.inputs[batch]).contiguous(memory_format=torch.channels_last)
            _step(model(images), train.labels[batch], optimizer)
            schedule.step()
        correct = predict(model.eval(), val.inputs) == val.labels
        share, seconds = correct.float().mean().item(), time.monotonic() - started
        print(f"epoch {epoch:2d}: {share:.1%} of validation, {seconds:.0f} s", file=sys.stderr)


def retrain_head(train: Samples, num_classes: int, options: Options) -> nn.Linear:
    """Train a new head on frozen features with class-balanced sampling (cRT).

    Args:
        train: N x D features and N labels.
        num_classes: The number of classes C.
        options: Learning rate, weight decay and epochs.

    Returns:
        The head, C x D.
    """
    torch.manual_seed(options.seed)
    head = nn.Linear(train.inputs.shape[1], num_classes)
    steps = len(train.labels) // BATCH
    optimizer = torch.optim.SGD(
        head.parameters(),
        lr=options.learning_rate,
        momentum=0.9,
        weight_decay=options.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.head_epochs * steps)
    sample_weights = 1 / torch.bincount(train.labels, minlength=num_classes)[train.labels]
    for _ in range(options.head_epochs):
        order = torch.multinomial(sample_weights, steps * BATCH, replacement=True)
        for batch in torch.split(order, BATCH):
            _step(head(train.inputs[batch]), train.labels[batch], optimizer)
            schedule.step()
    return head


def _step(logits: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss = functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.inference_mode()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the N class ids of N inputs, images or features."""
    return torch.cat([model(chunk).argmax(dim=1) for chunk in torch.split(inputs, 500)])


@torch.no_grad()
def extract(model: GlyphNet, samples: Samples) -> Samples:
    """Replace N images by their N x D features."""
    model.eval()
    features = [model.features(chunk) for chunk in torch.split(samples.inputs, 500)]
    return Samples(torch.cat(features), samples.labels)


def measure(head: nn.Module, samples: Samples, table: ClassTable) -> dict[str, float]:
    """Compute the accuracies, in percent, of a head on each split of the classes.

    Args:
        head: Maps features to logits.
        samples: N x D features and N labels.
        table: Which classes are few, medium and many.
    """
    correct = (predict(head, samples.inputs) == samples.labels).double()
    splits = torch.from_numpy(table.tiers)[samples.labels]
    groups = {name: correct[splits == i] for i, name in enumerate(("few", "medium", "many"))}
    groups["overall"] = correct
    return {name: round(100 * hits.mean().item(), 2) for name, hits in groups.items()}


def train_base(glyphs: Glyphs, options: Options) -> Base:
    """Run both stages and measure both heads on validation and test."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    images = {
        name: Samples.from_split(split)
        for name, split in {"train": glyphs.train, "val": glyphs.val, "test": glyphs.test}.items()
    }
    model = GlyphNet(glyphs.num_classes).to(memory_format=torch.channels_last)
    train_network(model, images["train"], images["val"], options)
    features = {name: extract(model, samples) for name, samples in images.items()}
    crt_head = retrain_head(features["train"], glyphs.num_classes, options)
    counts = torch.bincount(images["train"].labels, minlength=glyphs.num_classes)
    table = ClassTable(glyphs.class_names, counts.numpy())
    accuracies = {
        head_name: {split: measure(head, features[split], table) for split in ("val", "test")}
        for head_name, head in {"cross entropy": model.fc, "cRT": crt_head}.items()
    }
    ce_head, model.fc = model.fc, crt_head
    return Base(model, ce_head, accuracies)


def save_base(base: Base, options: Options) -> None:
    """Write the network, the cross-entropy head and the accuracies to ``options.out``."""
    recipe = {key: value for key, value in asdict(options).items() if key not in ("data", "out")}
    record = {
        "data": options.data.name if options.data else ARCHIVE,
        "torch": torch.__version__,
        "options": recipe,
        "accuracies": base.accuracies,
    }
    crt = {name: value.numpy() for name, value in base.model.state_dict().items()}
    ce = {f"fc.{name}": value.numpy() for name, value in base.ce_head.state_dict().items()}
    folder = options.out
    metadata = {"head": "cRT", **record}
    write_tensors(folder / "base-crt.safetensors", crt, metadata, overwrite=True)
    metadata = {"head": "cross entropy", **record}
    write_tensors(folder / "base-ce-head.safetensors", ce, metadata, overwrite=True)
    write_json(folder / "base-accuracies.json", record, overwrite=True)


def format_table(accuracies: Accuracies) -> str:
    """Lay the accuracies out as a Markdown table."""
    lines = ["| head | split | few | medium | many | overall |", "|---|---|---|---|---|---|"]
    for head, splits in accuracies.items():
        for split, row in splits.items():
            cells = " | ".join(f"{row[name]:.1f}" for name in ("few", "medium", "many", "overall"))
            lines.append(f"| {head} | {split} | {cells} |")
    return "\n".join(lines)


def parse_options(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the base model of the demonstration.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=14, help="of the whole network")
    parser.add_argument("--head-epochs", type=int, default=10, help="of the cRT head")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="peak, both stages")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=1, help="fixed, as sums depend on it")
    parser.add_argument("--data", type=Path, help="a rebuilt archive instead of the shipped one")
    parser.add_argument("--out", type=Path, default=DATA_FOLDER, help="folder for the weights")
    return Options(**vars(parser.parse_args(arguments)))


def main() -> None:
    """Train, save and print the accuracies."""
    options = parse_options(sys.argv[1:])
    base = train_base(load_glyphs(options.data), options)
    save_base(base, options)
    print(format_table(base.accuracies))


if __name__ == "__main__":
    main()
