"""Tiny stand-ins for the data of the recipes, in the same folders and file formats.

`python stand_in.py FOLDER` makes them all, `python stand_in.py FOLDER NAME...` some. Images
are coloured patches, and checkpoints are small or untrained networks under the true names of
their tensors with simple heads. Nothing here says how good anything is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from torchvision.models.resnet import Bottleneck, ResNet

from alphafix.values.arrays import Array

CLASSES = 12
COUNTS = {"train": [101, *[24] * 8, *[6] * 3], "val": [3] * 12, "test": [5] * 12}
SIZE = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

State = dict[str, torch.Tensor]


def _network(layers: list[int]) -> ResNet:
    """A ResNet of full depth and 1/16 of the inner width, which is fast on small images."""
    torch.manual_seed(0)
    # Residual branches that start at zero keep an untrained deep network's numbers in bounds.
    model = ResNet(
        Bottleneck, layers, num_classes=CLASSES, width_per_group=4, zero_init_residual=True
    )
    model.pretrained_cfg = {
        "input_size": (3, SIZE, SIZE),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
    }
    return model.eval()


def resnext50_32x4d() -> ResNet:
    """Stands in for torchvision's."""
    return _network([3, 4, 6, 3])


def resnet152() -> ResNet:
    """Stands in for torchvision's."""
    return _network([3, 8, 36, 3])


def draw(label: int, rng: np.random.Generator) -> Image.Image:
    """A blurred patch whose colour and place tell the class, but not beyond doubt."""
    angle = 2 * np.pi * label / CLASSES + rng.normal(scale=0.12)
    y, x = np.mgrid[:SIZE, :SIZE]
    middle = SIZE / 2 + 9 * np.array([np.sin(angle), np.cos(angle)])
    blob = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / 30)
    color = 0.5 + 0.5 * np.array([np.cos(angle), np.sin(angle), np.cos(2 * angle)])
    image = 255 * blob[..., None] * color + rng.normal(scale=12, size=(SIZE, SIZE, 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def write_lists(
    lists: Path, name: str, root: Path, place: str, splits: tuple[str, ...], rng: Any
) -> None:
    """Lists ``NAME_SPLIT.txt`` of ``path label`` lines, and their images below ``root``."""
    for split in splits:
        lines = []
        for label, count in enumerate(COUNTS[split]):
            for number in range(count):
                path = place.format(split=split, label=label, number=number)
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                draw(label, rng).save(root / path, format="JPEG", quality=95)
                lines.append(f"{path} {label}\n")
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{name}_{split}.txt").write_text("".join(lines))


def write_open(folder: Path, rng: Any) -> None:
    """Images of no known class: grey noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        noise = rng.integers(0, 256, size=(SIZE, SIZE, 1)).repeat(3, axis=2)
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.JPEG")


def class_means(features: Array, labels: Array) -> tuple[Array, Array]:
    """Weight C x D and bias C of the nearest class mean, in units of the spread in a class."""
    means = np.stack([features[labels == c].mean(0) for c in range(CLASSES)])
    centred = means - means.mean(0)
    spread = float(((features - means[labels]) ** 2).mean())
    bias = -0.5 * (centred**2).sum(1) - centred @ means.mean(0)
    return (centred / spread).astype(np.float32), (bias / spread).astype(np.float32)


def ridge(features: Array, labels: Array) -> tuple[Array, Array]:
    """Weight C x D and bias C of class-balanced ridge regression on scaled features."""
    mean, std = features.mean(0), features.std(0) + 1e-6
    fitted = RidgeClassifier(alpha=100.0, class_weight="balanced")
    fitted.fit((features - mean) / std, labels)
    weight, bias = 10 * fitted.coef_ / std, 10 * fitted.intercept_
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def trained(model: ResNet, listing: Path, root: Path) -> ResNet:
    """The network with a head fitted to its features of the training images."""
    pairs = [line.rsplit(" ", 1) for line in listing.read_text().splitlines()]
    labels = np.array([int(label) for _, label in pairs])
    pixels = np.stack([np.asarray(Image.open(root / path)) for path, _ in pairs])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    head = model.fc
    model.fc = torch.nn.Identity()
    with torch.inference_mode():
        features = torch.cat([model(part) for part in torch.split(x, 64)]).numpy()
    weight, bias = ridge(features, labels)
    head.weight.data, head.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    model.fc = head
    return model


def save_balanced(path: Path, model: ResNet, *, scales: bool) -> None:
    """A checkpoint of classifier-balancing: cross-entropy, cRT, or LWS with its learned scales."""
    state = model.state_dict()
    classifier = {name: tensor for name, tensor in state.items() if name.startswith("fc.")}
    body = {name: tensor for name, tensor in state.items() if name not in classifier}
    if scales:
        classifier["scales"] = torch.linspace(0.9, 1.1, CLASSES)
    best = {
        part: {f"module.{name}": tensor for name, tensor in tensors.items()}
        for part, tensors in (("feat_model", body), ("classifier", classifier))
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 90, "best_epoch": 90, "state_dict_best": best, "best_acc": 0.5}, path)


def gaussian(split: str, width: int, rng: Any) -> tuple[Array, Array]:
    """Features of Gaussian classes, and labels."""
    labels = np.repeat(np.arange(CLASSES), COUNTS[split])
    centers = np.random.default_rng(1).normal(size=(CLASSES, width))
    features = centers[labels] + rng.normal(size=(len(labels), width))
    return features.astype(np.float32), labels


def imagenet(data: Path, rng: Any) -> None:
    """ImageNet-LT: lists, images, unknown images, and cRT and LWS checkpoints."""
    place = "{split}/n{label:08d}/n{label:08d}_{number}.JPEG"
    lists, root = data / "ImageNet_LT", data / "ImageNet"
    write_lists(lists, "ImageNet_LT", root, place, ("train", "val", "test"), rng)
    write_open(lists / "ImageNet_LT_open", rng)
    model = trained(resnext50_32x4d(), lists / "ImageNet_LT_train.txt", root)
    for kind in ("crt_uni2bal", "lws_uni2bal", "uniform_e90"):
        file = data / f"classifier-balancing/ImageNet_LT/resnext50_{kind}.pth"
        save_balanced(file, model, scales=kind.startswith("lws"))
    for label in range(2):
        write_open(data / f"ImageNet_open/unknown-{label}", rng)


def places(data: Path, rng: Any) -> None:
    """Places-LT: lists, images, unknown images, and cRT and LWS checkpoints."""
    place = "data_256/{split}/{label}/{number:08d}.jpg"
    lists, root = data / "Places_LT", data / "Places"
    write_lists(lists, "Places_LT", root, place, ("train", "val", "test"), rng)
    write_open(lists / "Places_LT_open", rng)
    model = trained(resnet152(), lists / "Places_LT_train.txt", root)
    for kind in ("crt_uni2bal", "lws_uni2bal", "uniform_e30"):
        file = data / f"classifier-balancing/Places_LT/resnet152_{kind}.pth"
        save_balanced(file, model, scales=kind.startswith("lws"))


def inaturalist(data: Path, rng: Any) -> None:
    """Make iNaturalist 2018: lists beside the images, no test list, a cRT checkpoint."""
    folder = data / "iNaturalist18"
    place = "train_val2018/{split}/{label}/{number}.jpg"
    write_lists(folder, "iNaturalist18", folder, place, ("train", "val"), rng)
    model = trained(resnet152(), folder / "iNaturalist18_train.txt", folder)
    file = data / "classifier-balancing/iNaturalist18/resnet152_crt_uni2bal.pth"
    save_balanced(file, model, scales=False)


def cifar(data: Path, rng: Any) -> None:
    """CIFAR-100 in folders, and unknown images of TinyImageNet."""
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        for label in range(CLASSES):
            folder = data / f"CIFAR100/{split}/{label:02d}"
            folder.mkdir(parents=True)
            for number in range(count):
                draw(label, rng).save(folder / f"{number}.png")
    for part in ("val", "test"):
        write_open(data / "TinyImageNet_resize" / part, rng)


def sun(data: Path, rng: Any) -> None:
    """SUN-LT: lists and images."""
    place = "{split}/{label}/sun_{number}.jpg"
    write_lists(data / "SUN_LT", "SUN_LT", data / "SUN397", place, ("train", "val", "test"), rng)


def ms1m(data: Path, rng: Any) -> None:
    """MS1M-ArcFace: a folder of images for each person."""
    for label in range(CLASSES):
        folder = data / f"MS1M-ArcFace/{label:07d}"
        folder.mkdir(parents=True)
        for number in range(30 - 2 * label):
            draw(label, rng).save(folder / f"{number}.jpg", quality=95)


def ride(data: Path, rng: Any) -> None:
    """RIDE: checkpoints of 6 and of 3 experts, and features N x E x D_e."""
    for name, experts, width, splits in (
        ("ImageNet_LT", 6, 16, ("train", "val", "test")),
        ("CIFAR100_LT", 3, 16, ("train", "test")),
    ):
        folder = data / "RIDE" / name
        folder.mkdir(parents=True)
        for split in splits:
            features, labels = gaussian(split, experts * width, rng)
            features = features.reshape(len(labels), experts, width)
            np.savez(folder / f"{split}.npz", features=features, labels=labels)
            if split == "train":
                weights = [class_means(features[:, e], labels)[0] for e in range(experts)]
        state: State = {
            f"backbone.linears.{e}.weight": torch.from_numpy(weight.T.copy())
            for e, weight in enumerate(weights)
        }
        state["backbone.conv1.weight"] = torch.zeros(16, 3, 3, 3)
        torch.save({"arch": "RIDE", "epoch": 200, "state_dict": state}, folder / "model_best.pth")


def ltr(data: Path, rng: Any) -> None:
    """LTR: features and head as arrays."""
    folder = data / "LTR"
    folder.mkdir(parents=True)
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        arrays[f"{split}_features"], arrays[f"{split}_labels"] = gaussian(split, 16, rng)
    np.savez(folder / "features.npz", **arrays)
    weight, bias = class_means(arrays["train_features"], arrays["train_labels"])
    np.savez(folder / "head.npz", weight=weight / 100, bias=bias / 100)


def pretrained(data: Path, rng: Any) -> None:
    """Backbones that OLTR's training starts from."""
    import timm

    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    folder = data / "ImageNet-models"
    folder.mkdir(parents=True)
    for name in ("resnet152", "resnet50"):
        torch.save(state, folder / f"{name}.pth")


DATA: dict[str, Callable[[Path, Any], None]] = {
    part.__name__: part
    for part in (imagenet, places, inaturalist, cifar, sun, ms1m, ride, ltr, pretrained)
}


def main() -> None:
    """Make what the command line names."""
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(DATA)
    for name in names:
        DATA[name](folder, np.random.default_rng(0))
    print(f"export ALPHAFIX_DATA={folder.resolve()}")
    print("export ALPHAFIX_BACKBONES=python:stand_in: ALPHAFIX_OLTR=stand-in-oltr.yaml")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python stand_in.py FOLDER [{' '.join(DATA)}]")
    main()
