"""Every kind of backbone on every kind of source, against the library's own logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alphafix.commands.extract.options import ExtractOptions
from alphafix.features.store import FeatureStore
from alphafix.run.directory import Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.extract.photos import CLASSES, SIZES, WRITERS, Photos
from tests.extract.zoo import MAKERS, Animal
from tests.stages import extract


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("kind", MAKERS)
def test_extract__any_backbone_on_any_source(
    kind: str,
    form: str,
    tmp_path: Path,
    photos: Photos,
    data_spec: Callable[[str], str],
    animal: Callable[[str], Animal],
) -> None:
    model = animal(kind)
    options = ExtractOptions(
        run=tmp_path, data=data_spec(form), workers=0, batch_size=5, **model.options
    )

    extract(options)

    run = Run(tmp_path)
    head = Head.load(run.path("head.safetensors"))
    assert head.source is not None
    for split, items in photos.items():
        store = FeatureStore.open(run.features(split))
        store.verify()
        assert store.labels.tolist() == [label for _, label in items]
        assert len(set(store.ids)) == len(items)
        expected = model.logits([image for image, _ in items])
        scale = np.abs(expected).max()
        assert np.abs(head.logits(store.array()) - expected).max() < 1e-4 * scale
    table = ClassTable.load(run.path("classes.json"))
    assert table.counts.tolist() == [SIZES["train"]] * len(CLASSES)
    # Data without names takes those that a model of transformers has.
    named = form in ("folders", "csv", "hub") or kind == "transformers"
    assert table.names == (CLASSES if named else ("0", "1", "2"))
    train = FeatureStore.open(run.features("train"))
    means = [train.array()[train.labels == c].mean(axis=0) for c in range(len(CLASSES))]
    np.testing.assert_allclose(train.class_means(), means, rtol=1e-5, atol=1e-6)
