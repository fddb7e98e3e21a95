"""Images of samples, from wherever they came."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alphafix.features.store import FeatureStore
from alphafix.features.writer import FeatureWriter
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.report.sprite import ACROSS, Sprite, sprite
from alphafix.values.classes import ClassTable

CLASSES = ClassTable(("blue", "red"), np.array([5, 50]))
COLORS = {"blue": (0, 0, 255), "red": (255, 0, 0)}
EACH, ROOM = 40, 10**6


def picture(name: str) -> Image.Image:
    return Image.new("RGB", (200, 100), COLORS[name])


def folders(folder: Path) -> str:
    for name in COLORS:
        (folder / "test" / name).mkdir(parents=True)
        for index in range(EACH):
            picture(name).save(folder / "test" / name / f"{index:02d}.png")
    return str(folder)


def lists(folder: Path) -> str:
    folders(folder)
    lines = [f"test/{name}/{i:02d}.png {k}\n" for k, name in enumerate(COLORS) for i in range(EACH)]
    (folder / "test.txt").write_text("".join(lines))
    return str(folder / "{split}.txt")


def archives(folder: Path) -> str:
    for part, name in enumerate(COLORS):
        with tarfile.open(folder / f"test-{part}.tar", "w") as file:
            for index in range(EACH):
                out = io.BytesIO()
                picture(name).save(out, "PNG")
                for suffix, data in (("png", out.getvalue()), ("cls", str(part).encode())):
                    info = tarfile.TarInfo(f"{index:02d}.{suffix}")
                    info.size = len(data)
                    file.addfile(info, io.BytesIO(data))
    return str(folder / "{split}-{0..1}.tar")


def arrays(folder: Path) -> str:
    images = np.stack([np.asarray(picture(name)) for name in COLORS for _ in range(EACH)])
    np.savez(folder / "all.npz", test_images=images, test_labels=np.repeat([0, 1], EACH))
    return str(folder / "all.npz")


def store_of(folder: Path, data: str, skipped: tuple[int, ...] = ()) -> FeatureStore:
    """Features of the images, and where they are."""
    source = open_splits(open_data(data), ["test"]).sources["test"]
    groups = [(g, i) for g in range(source.groups) for i in range(source.size(g))]
    samples = [source.sample(*one) for one in groups]
    samples = [sample for place, sample in enumerate(samples) if place not in skipped]
    writer = FeatureWriter(folder / "features", num_classes=2)
    labels = np.array([sample.label for sample in samples])
    features = np.ones((len(samples), 3), np.float32)
    writer.add(features, labels, [sample.id for sample in samples])
    info = {"split": "test", "skipped": len(skipped), "provenance": {"options": {"data": data}}}
    return writer.finish(info)


def colors(found: Sprite) -> list[Any]:
    """The colour in the middle of each image."""
    if not found.uri:
        return []
    kind, _, data = found.uri.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        sheet = np.asarray(image.convert("RGB"))
    middle = found.size // 2
    places = [divmod(place, found.across) for place in range(len(found.samples))]
    return [
        tuple(int(x > 128) for x in sheet[r * found.size + middle, c * found.size + middle])
        for r, c in places
    ]


def everything(store: FeatureStore, most: int = 1000, room: int = ROOM) -> Sprite:
    return sprite(store, CLASSES, np.arange(len(store)), most=most, room=room)


@pytest.mark.parametrize("make", [folders, lists, archives, arrays])
def test_sprite__images_of_every_source(tmp_path: Path, make: Callable[[Path], str]) -> None:
    found = everything(store_of(tmp_path, make(tmp_path)))
    assert list(found.samples) == list(range(2 * EACH))
    assert found.across == ACROSS < len(found.samples)  # in two rows
    assert colors(found) == [(0, 0, 1)] * EACH + [(1, 0, 0)] * EACH
    assert found.note.startswith(f"Images of {2 * EACH} of {2 * EACH} samples")


def test_sprite__those_first_that_are_wanted_most(tmp_path: Path) -> None:
    store = store_of(tmp_path, folders(tmp_path))
    wanted = np.array([70, 3, 5, 71])
    found = sprite(store, CLASSES, wanted, most=3, room=ROOM)
    assert list(found.samples) == [3, 5, 70]
    assert colors(found) == [(0, 0, 1), (0, 0, 1), (1, 0, 0)]
    assert "Images of 3 of 80 samples" in found.note


def test_sprite__fits_its_room(tmp_path: Path) -> None:
    store = store_of(tmp_path, folders(tmp_path))
    whole = everything(store)
    small = everything(store, room=len(whole.uri) // 2)
    assert 0 < len(small.uri) <= len(whole.uri) // 2
    assert 0 < len(small.samples) < 80
    assert everything(store, room=10).uri == ""


def test_sprite__after_images_that_were_skipped(tmp_path: Path) -> None:
    found = everything(store_of(tmp_path, folders(tmp_path), skipped=(0, 41)))
    assert len(found.samples) == 78
    assert colors(found) == [(0, 0, 1)] * 39 + [(1, 0, 0)] * 39


def test_sprite__another_or_a_damaged_image_is_left_out(tmp_path: Path) -> None:
    store = store_of(tmp_path, folders(tmp_path))
    (tmp_path / "test" / "red" / "39.png").unlink()
    (tmp_path / "test" / "blue" / "01.png").write_bytes(b"no image")
    found = everything(store)
    assert set(range(80)) - set(found.samples) == {1, 79}
    assert "2 could not be read" in found.note


def test_sprite__none_without_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = store_of(tmp_path, folders(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert everything(store).uri == ""
    assert everything(store).note.startswith("No images")
    assert everything(store, most=0).note == "No images: they are not asked for."
