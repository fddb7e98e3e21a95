"""The base model that ships: its weights fit, and are as good as their header says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import alphafix.demo
from alphafix.demo.glyphs import Glyphs, GlyphSplit, load_glyphs
from alphafix.demo.model import GlyphNet, GlyphTransform, glyph_net, normalize
from alphafix.files import read_json, read_tensors
from alphafix.values.classes import ClassTable

DATA = Path(alphafix.demo.__file__).parent / "data"
NETWORK = DATA / "base-crt.safetensors"
CE_HEAD = DATA / "base-ce-head.safetensors"


def load_network(head: Path | None = None) -> tuple[GlyphNet, dict[str, Any]]:
    """Load the network strictly, with another head if one is given."""
    tensors, metadata = read_tensors(NETWORK)
    if head is not None:
        head_tensors, metadata = read_tensors(head)
        assert set(head_tensors) == {"fc.weight", "fc.bias"}
        tensors |= head_tensors
    model = glyph_net()
    model.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()}, strict=True)
    return model.eval(), metadata


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    """The data set, loaded once."""
    return load_glyphs()


@pytest.fixture(scope="module")
def features(glyphs: Glyphs) -> dict[str, torch.Tensor]:
    """Features of validation and test, from the images, by the network that ships."""
    model, _ = load_network()
    batches = {
        name: torch.split(normalize(torch.from_numpy(split.images)), 500)
        for name, split in {"val": glyphs.val, "test": glyphs.test}.items()
    }
    with torch.inference_mode():
        return {name: torch.cat([model.features(b) for b in bs]) for name, bs in batches.items()}


def accuracies(logits: torch.Tensor, split: GlyphSplit, glyphs: Glyphs) -> dict[str, float]:
    """Compute the accuracy, in percent, on each split of the classes."""
    counts = np.bincount(glyphs.train.labels, minlength=glyphs.num_classes)
    group = ClassTable(glyphs.class_names, counts).tiers[split.labels]
    right = logits.argmax(dim=1).numpy() == split.labels
    rows = {"few": right[group == 0], "medium": right[group == 1], "many": right[group == 2]}
    return {name: 100 * float(hits.mean()) for name, hits in {**rows, "overall": right}.items()}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(("head", "file"), [("cRT", None), ("cross entropy", CE_HEAD)])
def test_weights__accuracies_are_those_of_the_header(
    glyphs: Glyphs, features: dict[str, torch.Tensor], head: str, file: Path | None, split: str
) -> None:
    model, metadata = load_network(file)
    assert metadata["head"] == head
    with torch.inference_mode():
        measured = accuracies(model.fc(features[split]), getattr(glyphs, split), glyphs)
    assert measured == pytest.approx(metadata["accuracies"][head][split], abs=0.1)


def test_weights__header_says_how_they_were_made() -> None:
    _, metadata = load_network()
    assert metadata["options"]["seed"] == 0
    assert metadata["torch"]
    del metadata["head"]
    assert read_json(DATA / "base-accuracies.json") == metadata


def test_weights__are_small() -> None:
    assert NETWORK.stat().st_size + CE_HEAD.stat().st_size <= 1_000_000


def test_network__forward_is_head_of_features() -> None:
    model = glyph_net().eval()
    images = torch.randn(3, 1, 16, 16)
    features = model.features(images)
    assert features.shape == (3, model.num_features)
    assert model.get_classifier() is model.fc
    torch.testing.assert_close(model(images), model.fc(features))


def test_transform__is_that_of_training(glyphs: Glyphs) -> None:
    transform = pickle.loads(pickle.dumps(glyph_net().transform))
    pixels = glyphs.val.images[:1]
    expected = normalize(torch.from_numpy(pixels))[0]
    torch.testing.assert_close(transform(Image.fromarray(pixels[0])), expected)
    torch.testing.assert_close(transform(Image.fromarray(pixels[0]).convert("RGB")), expected)


def test_transform__resizes_other_sizes() -> None:
    image = Image.fromarray(np.full((32, 48), 255, np.uint8))
    tensor = GlyphTransform()(image)
    assert tensor.shape == (1, 16, 16)
    assert tensor.dtype == torch.float32
    assert (tensor == tensor[0, 0, 0]).all()
