from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphafix.features.store import FeatureStore
from alphafix.features.writer import FeatureWriter
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.report.thumbnails import SIZE, thumbnails
from alphafix.values.classes import ClassTable

CLASSES = ClassTable(("blue", "red"), np.array([5, 50]))
COLORS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Features of two images a class, and where the images are."""
    for name, color in COLORS.items():
        folder = tmp_path / "data" / "test" / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (200, 100), color).save(folder / f"{index}.png")
    source = open_splits(open_data(str(tmp_path / "data")), ["test"]).sources["test"]
    samples = [source.sample(0, i) for i in range(4)]
    writer = FeatureWriter(tmp_path / "features", num_classes=2)
    labels = np.array([sample.label for sample in samples])
    writer.add(np.ones((4, 3), np.float32), labels, [sample.id for sample in samples])
    options = {"data": str(tmp_path / "data")}
    return writer.finish({"split": "test", "skipped": 0, "provenance": {"options": options}})


def test_thumbnails__small_pictures_of_the_right_class(store: FeatureStore) -> None:
    found = thumbnails(store, CLASSES, [0, 1])
    assert sorted(found) == [0, 1]
    for label, uri in found.items():
        kind, _, data = uri.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (SIZE, SIZE // 2)
            assert image.getpixel((3, 3)) == COLORS[CLASSES.names[label]]


def test_thumbnails__none_where_another_image_is_in_the_place(
    store: FeatureStore, tmp_path: Path
) -> None:
    (tmp_path / "data" / "test" / "blue" / "0.png").unlink()
    assert 0 not in thumbnails(store, CLASSES, [0])


def test_thumbnails__damaged_image_is_left_out(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "data" / "test" / "blue" / "0.png").write_bytes(b"no image")
    assert sorted(thumbnails(store, CLASSES, [0, 1])) == [1]


def test_thumbnails__none_without_images(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert thumbnails(store, CLASSES, [0, 1]) == {}
