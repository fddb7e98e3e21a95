"""The same small images in every form that --data takes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")
SIZES = {"train": 4, "val": 2}
SIDE = 24

Photos = dict[str, list[tuple[Image.Image, int]]]


def make_photos(seed: int = 0) -> Photos:
    """Images and labels by split, classes one after the other."""
    rng = np.random.default_rng(seed)
    return {
        split: [
            (Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)), label)
            for label in range(len(CLASSES))
            for _ in range(size)
        ]
        for split, size in SIZES.items()
    }


def write_folders(folder: Path, photos: Photos, names: Sequence[str] = CLASSES) -> str:
    """DIR/SPLIT/CLASS/00.png."""
    for split, items in photos.items():
        for number, (image, label) in enumerate(items):
            path = folder / split / names[label] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return str(folder)


def write_lists(folder: Path, photos: Photos) -> str:
    """DIR/SPLIT.txt with class ids."""
    for split, items in photos.items():
        lines = []
        for number, (image, label) in enumerate(items):
            path = folder / "images" / f"{split} {number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            lines.append(f"images/{path.name} {label}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return str(folder)


def write_csv(folder: Path, photos: Photos) -> str:
    """DIR/SPLIT.csv with class names."""
    write_folders(folder, photos)
    for split in photos:
        files = sorted((folder / split).glob("*/*.png"))
        rows = [f"{file.relative_to(folder)},{file.parent.name}\n" for file in files]
        (folder / f"{split}.csv").write_text("image,label\n" + "".join(rows))
    return str(folder)


def write_archives(folder: Path, photos: Photos) -> str:
    """Two archives a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, items in photos.items():
        half = len(items) // 2
        for part, some in enumerate((items[:half], items[half:])):
            with tarfile.open(folder / f"{split}-{part}.tar", "w") as archive:
                for number, (image, label) in enumerate(some):
                    data = io.BytesIO()
                    image.save(data, "PNG")
                    key = f"{part}{number:03d}"
                    add_member(archive, f"{key}.png", data.getvalue())
                    add_member(archive, f"{key}.json", json.dumps({"label": label}).encode())
                    add_member(archive, f"{key}.cls", str(label).encode())
    return f"{folder}/{{split}}-{{0..1}}.tar"


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add bytes to a tar file."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def write_arrays(folder: Path, photos: Photos) -> str:
    """One .npz with all splits."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for split, items in photos.items():
        arrays[f"{split}_images"] = np.stack([np.asarray(image) for image, _ in items])
        arrays[f"{split}_labels"] = np.array([label for _, label in items])
    np.savez(folder / "photos.npz", **arrays)
    return str(folder / "photos.npz")


def write_hub(folder: Path, photos: Photos) -> str:
    """A Hugging Face data set on the disk."""
    import datasets

    kinds = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    made = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"image": [image for image, _ in items], "label": [label for _, label in items]},
                features=kinds,
            )
            for split, items in photos.items()
        }
    )
    made.save_to_disk(str(folder))
    return f"hf:{folder}"


WRITERS = {
    "folders": write_folders,
    "lists": write_lists,
    "csv": write_csv,
    "archives": write_archives,
    "arrays": write_arrays,
    "hub": write_hub,
}
