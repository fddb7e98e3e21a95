"""How fast and how large extraction is, beside the bare model and timm's own loader.

Speeds are ratios of rates that are measured in the same run and in turns, so that what else the
machine does falls on both; the best turn counts for each. On a machine with other work the
ratios of processor time say more. Memory is the peak of a process of
its own together with that of its largest worker.

    python examples/benchmarks/extract.py --json
    python examples/benchmarks/extract.py --device cuda --models resnet50 vit_base_patch16_224
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from counts import positive
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from alphafix.commands.command import Watch
from alphafix.commands.extract.allocator import kept_memory
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.work import extract_all as extract
from alphafix.devices import Placement, autocast
from alphafix.features.extraction import Job, extract_shards
from alphafix.features.ledger import Ledger
from alphafix.images.batches import BatchDataset, first_batch
from alphafix.images.encoded import device_decoder, is_plain_jpeg
from alphafix.images.source import ImageSource
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.models.extractor import Extractor
from alphafix.models.loading import load_classifier
from alphafix.models.preprocess import Overrides
from alphafix.progress import silent

TURNS = 3
BATCH = 32
SIZE = 224
CLASSES = 10
ROWS = (100_000, 1_000_000)
WIDTH = 2048

Figure = dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="+", default=["resnet18"])
    parser.add_argument("--images", type=positive, default=1024, help="images a turn")
    parser.add_argument("--skip-memory", action="store_true", help="leave out the million rows")
    parser.add_argument(
        "--rows", type=positive, help=argparse.SUPPRESS
    )  # the process that is measured
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.rows:
        print(json.dumps(memory_of_rows(arguments.rows)))
        return
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            found += speeds(Path(folder), model, arguments.device, arguments.images)
    if not arguments.skip_memory:
        found += memory()
    found.append(help_time())
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for entry in found:
        verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
        target = "" if entry["target"] is None else f"{entry['target']:g}"
        print(f"{entry['what']:<62}{entry['value']:>9.3g} {entry['unit']:<9}{target:<7}{verdict}")


def figure(
    what: str, value: float, unit: str, target: float | None = None, *, most: bool = False
) -> Figure:
    """One line of the result; ``most`` says that the target is an upper limit."""
    met = None if target is None else bool(value <= target if most else value >= target)
    return {"what": what, "value": round(value, 4), "unit": unit, "target": target, "met": met}


def speeds(folder: Path, name: str, device: str, count: int) -> list[Figure]:
    """Rates of one model on decoded images and on JPEG files."""
    setting = Placement.choose(device, "auto")
    weights = save_model(folder, name)
    extractor = load(name, weights, write_decoded(folder, count), setting)
    decoded = open_splits(open_data(write_decoded(folder, count)), ["val"]).sources["val"]
    files = open_splits(open_data(write_jpegs(folder, count)), ["val"]).sources["val"]
    bare, ours, kept = best_speeds(
        lambda: forward_only(extractor, count),
        lambda: extracted(extractor, decoded, folder),
        lambda: forward_keeping_memory(extractor, count),
    )
    theirs, files_speed = best_speeds(
        lambda: timm_loop(name, weights, folder / "jpegs" / "val", setting),
        lambda: extracted(extractor, files, folder),
    )
    where = f"{name}, {device}, {setting.precision}"
    target = 1.5 if device == "cuda" else 1.0
    return [
        figure(f"bare forward pass ({where})", bare.rate, "images/s"),
        figure(f"extract, decoded ({where})", ours.rate, "images/s"),
        figure(f"extract, decoded / bare forward pass ({where})", ours.rate / bare.rate, "x", 0.95),
        figure(f"processor time of these, bare / extract ({where})", bare.cost / ours.cost, "x"),
        figure(
            f"… / bare forward pass that keeps memory as extract does ({where})",
            *(ours.rate / kept.rate, "x"),
        ),
        figure(f"timm's loader and forward pass, JPEG ({where})", theirs.rate, "images/s"),
        figure(f"extract, JPEG ({where})", files_speed.rate, "images/s"),
        figure(f"extract / timm, JPEG ({where})", files_speed.rate / theirs.rate, "x", target),
        figure(f"processor time, timm / extract ({where})", theirs.cost / files_speed.cost, "x"),
    ]


class Speed(NamedTuple):
    """Best of some turns.

    Attributes:
        rate: Images per second of wall-clock time.
        cost: Seconds of processor time an image, of all processes.
    """

    rate: float
    cost: float


def best_speeds(*functions: Callable[[], int]) -> list[Speed]:
    """Speeds of functions that return how many images they did, in turns."""
    found: list[list[Speed]] = [[] for _ in functions]
    for _ in range(TURNS):
        for speeds_of_it, function in zip(found, functions, strict=True):
            start, used = time.perf_counter(), sum(os.times()[:4])
            count = function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds, used = time.perf_counter() - start, sum(os.times()[:4]) - used
            speeds_of_it.append(Speed(count / seconds, used / count))
    return [Speed(max(s.rate for s in f), min(s.cost for s in f)) for f in found]


def save_model(folder: Path, name: str) -> Path:
    """Save a timm model with random weights."""
    import timm

    path = folder / f"{name}.safetensors"
    save_file(timm.create_model(name, num_classes=CLASSES).state_dict(), path)
    return path


def load(
    name: str, weights: Path, data: str, setting: Placement, *, compiled: bool = False
) -> Extractor:
    """Load the model for extraction."""
    overrides = Overrides(image_size=SIZE, crop_pct=1.0)
    classifier = load_classifier(f"timm:{name}", weights, overrides)
    source = open_splits(open_data(data), ["val"]).sources["val"]
    dataset = BatchDataset(source, classifier.preprocess.transform)
    batch = first_batch(dataset, BATCH, skip_bad=False)
    return Extractor.prove(classifier, batch, setting, compiled=compiled)


def write_decoded(folder: Path, count: int) -> str:
    """Decoded images of the model's size."""
    path = folder / "decoded.npz"
    if not path.exists():
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        np.savez(path, val_images=images, val_labels=np.arange(count) % CLASSES)
    return str(path)


def write_jpegs(folder: Path, count: int) -> str:
    """JPEG files of ImageNet's usual size, with structure at all scales as photographs have."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "jpegs" / "val" / f"class {number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = sum(
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                    (500, 375), Image.Resampling.BICUBIC
                ),
                dtype=np.float32,
            )
            for side in (4, 16, 64, 256)
        )
        Image.fromarray((np.asarray(pixels) / 4).astype(np.uint8)).save(path, quality=90)
    return str(folder / "jpegs")


def forward_only(extractor: Extractor, count: int) -> int:
    """The model on batches that are on the device already."""
    images = torch.randn(BATCH, 3, SIZE, SIZE, device=extractor.setting.device)
    images = images.contiguous(memory_format=torch.channels_last)
    setting = extractor.setting
    with torch.inference_mode(), autocast(setting.device, setting.precision):
        for _ in range(count // BATCH):
            extractor.model(images)
    return count // BATCH * BATCH


def forward_keeping_memory(extractor: Extractor, count: int) -> int:
    """The same with the C library told to keep memory, which torch by itself does not do."""
    with kept_memory():
        return forward_only(extractor, count)


def extracted(
    extractor: Extractor, source: ImageSource, folder: Path, begun: list[float] | None = None
) -> int:
    """Our extraction, with its loading processes and the writing of the store.

    ``begun`` is told when the first batch has come: of images that need no decoding all work of
    the device is after it.
    """
    setting, preprocess = extractor.setting, extractor.preprocess
    decoder = device_decoder(
        "auto",
        setting.device,
        None if preprocess.geometry is None else preprocess.geometry.on_tensor,
        preprocess.transform,
        exif_rotate=False,
    )

    def features_of(images: Tensor) -> Tensor:
        if begun is not None and not begun:
            begun.append(time.perf_counter())
        return extractor(images)

    with tempfile.TemporaryDirectory(dir=folder) as out:
        ledger = Ledger(Path(out) / "val")
        job = Job(
            dataset=BatchDataset(
                source,
                preprocess.transform,
                keep_encoded=None if decoder is None else is_plain_jpeg,
            ),
            decoder=decoder,
            features_of=features_of,
            around=kept_memory,
            num_classes=CLASSES,
            width=extractor.head.width,
            dtype="float32",
            batch_size=BATCH,
            workers=cores(),
            pin_memory=setting.device.type == "cuda",
        )
        with silent("", None) as advance:
            return int(extract_shards(job, ledger, advance)[0].counts.sum())


def cores() -> int:
    """Loading processes for both sides."""
    return len(os.sched_getaffinity(0))


def timm_loop(name: str, weights: Path, folder: Path, setting: Placement) -> int:
    """What timm's validation script does: its loader, its transform, the model."""
    import timm
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader

    model = timm.create_model(name, num_classes=CLASSES, checkpoint_path=str(weights))
    model = model.eval().to(setting.device)
    loader = create_loader(
        create_dataset("", str(folder)),
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=False,
        use_prefetcher=setting.device.type == "cuda",
        interpolation="bicubic",
        crop_pct=1.0,
        num_workers=cores(),
        device=setting.device,
    )
    count = 0
    with torch.inference_mode(), autocast(setting.device, setting.precision):
        for images, _ in loader:
            model(images)
            count += len(images)
    return count


class Synthetic(nn.Module):
    """Wide features of tiny images: a backbone that costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, CLASSES)

    def transform(self, image: Image.Image) -> Tensor:
        """One pixel, scaled."""
        return torch.from_numpy(np.asarray(image, dtype=np.float32)[0, 0] / 255)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a pixel repeated."""
        logits: Tensor = self.fc(images.repeat(1, WIDTH // 3 + 1)[:, :WIDTH])
        return logits


def synthetic() -> Synthetic:
    """For --backbone python:."""
    return Synthetic()


def memory_of_rows(rows: int) -> dict[str, float]:
    """Extract ``rows`` synthetic features; peak memory in MiB, and the rate."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (rows, 1, 1, 3), dtype=np.uint8)
        np.save(f"{folder}/images_train.npy", pixels)
        np.save(f"{folder}/labels_train.npy", np.arange(rows) % CLASSES)
        start = time.perf_counter()
        options = ExtractOptions(
            run=Path(folder) / "run",
            backbone=f"python:{Path(__file__).stem}:synthetic",
            data=f"{folder}/images_{{split}}.npy",
            split="train",
            batch_size=1000,
            store_dtype="float16",
        )
        extract(options, Watch())
        seconds = time.perf_counter() - start
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kib += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"mib": kib / 1024, "rate": rows / seconds}


def memory() -> list[Figure]:
    """Peak memory at a million rows against a tenth of them."""
    here = Path(__file__).parent
    peaks = {}
    for rows in ROWS:
        command = [sys.executable, __file__, "--rows", str(rows)]
        environment = {**os.environ, "PYTHONPATH": str(here)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peaks[rows] = json.loads(done.stdout)["mib"]
    few, many = ROWS
    return [
        figure(f"peak memory, {few:,} rows x {WIDTH} float16", peaks[few], "MiB"),
        figure(f"peak memory, {many:,} rows x {WIDTH} float16", peaks[many], "MiB"),
        figure(
            f"peak memory, {many:,} / {few:,} rows", peaks[many] / peaks[few], "x", 1.1, most=True
        ),
    ]


def help_time() -> Figure:
    """Best wall-clock time of `alphafix --help`."""
    command = [sys.executable, "-m", "alphafix", "--help"]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return figure("alphafix --help", min(seconds), "s", 0.4, most=True)


if __name__ == "__main__":
    main()
