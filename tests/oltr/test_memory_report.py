from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from alphafix.errors import FileFormatError
from alphafix.files import write_tensors
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.embedding import (
    PER_CLASS,
    Embedding,
    MemoryFigures,
    collect_embedding,
    sample_by_class,
)
from alphafix.oltr.training.images import TensorImages
from alphafix.oltr.training.methods import METHODS
from alphafix.oltr.training.projection import activated_classes, infused_rows, project
from alphafix.oltr.training.running import ON_CPU
from alphafix.report.memory_pictures import infused_table, memory_pictures
from alphafix.report.style import svg_text
from alphafix.values.classes import ClassTable

COUNTS = np.array([200, 150, 120, 60, 40, 30, 8, 5, 4])
CLASSES = ClassTable((*(f"class {i}" for i in range(8)), "$x$"), COUNTS)
LABELS = np.repeat(np.arange(9), 6).astype(np.int64)


def images() -> TensorImages:
    """Grey 16 x 16 images, brighter for later classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 40, size=(54, 16, 16)) + 20 * LABELS[:, None, None]
    transform = ImageTransform(channels=1, resize=16, size=16, mean=(0.4,), std=(0.25,))
    return TensorImages(pixels.astype(np.uint8), LABELS, transform)


def model(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    setting = ModelSpec(backbone="small", counts=COUNTS, input_channels=1, size=16, width=12)
    spec = METHODS[name]
    first = spec.stages[0].build_model(setting)
    return spec.stages[-1].build_model(setting, first).eval()


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    found = collect_embedding(model("oltr"), images(), CLASSES, ON_CPU, split="test")
    assert found is not None
    return found


def test_collect__is_what_the_model_gives(embedding: Embedding) -> None:
    pixels, labels = next(iter(images().plain(np.arange(54), 54, ON_CPU.device)))
    with torch.no_grad():
        output = model("oltr")(pixels)
    assert embedding.labels.tolist() == labels.tolist()
    assert embedding.direct == pytest.approx(output.direct.numpy(), abs=1e-5)
    assert embedding.features == pytest.approx(output.features.numpy(), abs=1e-5)
    assert embedding.memory is not None
    assert embedding.memory.mean == pytest.approx(output.memory.mean(0).numpy(), abs=1e-6)


def test_collect__nothing_of_a_model_without_a_memory() -> None:
    assert collect_embedding(model("plain"), images(), CLASSES, ON_CPU, split="test") is None


def test_figures__hand_computed() -> None:
    coefficients = np.array(
        [[0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8], [0.5, 0.1, 0.4]], dtype=np.float32
    )
    pixels = np.array([0, 40, 80, 120], dtype=np.uint8).reshape(4, 1, 1, 1)
    found = MemoryFigures.of(coefficients, np.array([0, 0, 2, 2]), pixels)
    assert found.mean == pytest.approx([0.35, 0.275, 0.375])
    assert found.classes.tolist() == [0, 2]
    assert found.own == pytest.approx([0.4, 0.6])
    assert found.infused.tolist() == [[1, 2], [0, 1]]
    assert found.infused_values == pytest.approx(np.array([[0.45, 0.15], [0.3, 0.1]]))
    assert found.shown.tolist() == [2, 0, 1]
    # Class 2 is activated most by the third and fourth image, class 0 by the first and fourth.
    assert found.most[:, 0, 0, 0].tolist() == [100, 60, 20]
    assert found.least[:, 0, 0, 0].tolist() == [20, 60, 100]
    most, least = activated_classes(found)
    assert (most.tolist(), least.tolist()) == ([2], [1])


def test_infused_rows__rarest_classes_first(embedding: Embedding) -> None:
    assert embedding.memory is not None
    rows = infused_rows(embedding.memory, CLASSES, count=3)
    assert [label for label, _, _ in rows] == [8, 7, 6]
    for label, _, others in rows:
        assert len(others) == 3
        assert label not in [other for other, _ in others]
        values = [value for _, value in others]
        assert values == sorted(values, reverse=True)


def test_images__are_those_of_the_source(embedding: Embedding) -> None:
    assert embedding.memory is not None
    # Averages of all images of a side lie within the range that was drawn.
    assert embedding.memory.most.shape[1:] == (16, 16, 1)
    assert 15 < embedding.memory.most.mean() < 190


def test_sample__whole_classes_evenly_over_the_splits() -> None:
    classes = ClassTable(tuple("abcdef"), np.array([200, 150, 120, 110, 50, 5]))
    labels = np.repeat(np.arange(6), [30, 30, 30, 30, 30, 10])
    index = sample_by_class(labels, classes, most=70, seed=1)
    counts = np.bincount(labels[index], minlength=6)
    assert (counts[4], counts[5]) == (PER_CLASS, 10)
    assert sorted(counts[:4].tolist()) == [0, 0, 20, 20]
    assert (np.diff(index) > 0).all()
    assert sample_by_class(labels, classes, most=70, seed=1).tolist() == index.tolist()


def test_sample__leaves_out_unknown_samples() -> None:
    classes = ClassTable(("a", "b"), np.array([200, 5]))
    index = sample_by_class(np.array([-1, 0, 1, -1]), classes)
    assert index.tolist() == [1, 2]


def test_file__comes_back_as_it_was(embedding: Embedding, tmp_path: Path) -> None:
    embedding.save(tmp_path / "e.safetensors")
    found = Embedding.load(tmp_path / "e.safetensors")
    assert (found.names, found.split) == (embedding.names, "test")
    assert found.features.tolist() == embedding.features.tolist()
    assert found.memory is not None
    assert embedding.memory is not None
    for name, value in vars(embedding.memory).items():
        assert getattr(found.memory, name).tolist() == value.tolist()


def test_file__of_something_else(tmp_path: Path) -> None:
    write_tensors(tmp_path / "e.safetensors", {"direct": np.zeros((1, 1))}, {})
    with pytest.raises(FileFormatError, match="is not the embedding"):
        Embedding.load(tmp_path / "e.safetensors")


def test_project__finds_the_compact_side() -> None:
    rng = np.random.default_rng(0)
    centers = 10 * rng.normal(size=(9, 12))
    loose, tight = (
        (centers[LABELS] + spread * rng.normal(size=(54, 12))).astype(np.float32)
        for spread in (12.0, 1.0)
    )
    found = project(Embedding(loose, tight, LABELS, None, CLASSES.names, "test"), CLASSES)
    assert found is not None
    for name in ("few", "medium", "many"):
        direct, meta = (found.compactness[kind][name] for kind in ("direct", "features"))
        assert direct is not None
        assert meta is not None
        assert meta > 0.7 > direct + 0.3
    again = project(Embedding(loose, tight, LABELS, None, CLASSES.names, "test"), CLASSES)
    assert again is not None
    assert again.features.tolist() == found.features.tolist()


def test_project__too_little_to_look_at() -> None:
    one = np.zeros((4, 3), dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    assert project(Embedding(one, one, labels, None, CLASSES.names, "test"), CLASSES) is None


def test_project__split_without_classes_is_not_available() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 3)).astype(np.float32)
    labels = np.repeat([0, 1], 6).astype(np.int64)
    found = project(Embedding(values, values, labels, None, CLASSES.names, "test"), CLASSES)
    assert found is not None
    assert found.compactness["direct"]["few"] is None
    assert found.compactness["direct"]["many"] is not None


def test_pictures__with_their_data(embedding: Embedding) -> None:
    found = {picture.name: picture for picture in memory_pictures(embedding, CLASSES)}
    assert list(found) == ["embeddings", "memory", "memory-images"]
    for picture in found.values():
        assert "<svg" in svg_text(picture.drawing)
    rows = list(csv.DictReader(io.StringIO(found["memory"].csv())))
    values = [float(row["mean_coefficient"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert len(rows) == 9
    assert len(found["embeddings"].rows) == 2 * 54
    assert "$x$" in svg_text(found["memory"].drawing)


def test_pictures__without_the_memory_feature(embedding: Embedding) -> None:
    without = Embedding(
        embedding.direct, embedding.features, embedding.labels, None, embedding.names, "val"
    )
    assert [picture.name for picture in memory_pictures(without, CLASSES)] == ["embeddings"]


def test_table__names_what_is_borrowed(embedding: Embedding) -> None:
    assert embedding.memory is not None
    table = infused_table(embedding.memory, CLASSES)
    rows = table.rows
    assert len(table.header) == len(rows[0]) == 4
    assert rows[0][:2] == ["$x$", "4"]
