"""A second head on the same backbone: `extract` takes it, and the features stay."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import StaleInputError, TargetExistsError
from alphafix.features.store import FeatureStore
from alphafix.run.directory import Run
from alphafix.values.head import Head
from tests.extract import models
from tests.extract.zoo import Animal
from tests.processes import contents
from tests.stages import extract, find_neighbors, train

Zoo = Callable[[str], Animal]
DataSpec = Callable[[str], str]

# Where each library keeps the head.
HEADS = {
    "timm": "head.fc",
    "torchvision": "module.fc",
    "python": "fc",
    "transformers": "classifier",
}


def rewritten(file: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a model file with other tensors."""
    if file.suffix == ".pth":
        data = torch.load(file, weights_only=True)
        change(data["state_dict"])
        torch.save(data, target)
    else:
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, target, metadata={"format": "pt"})
    return target


def another_head(name: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        for part in ("weight", "bias"):
            torch.manual_seed(7)
            tensors[f"{name}.{part}"] = torch.randn_like(tensors[f"{name}.{part}"])

    return change


def another_backbone(name: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        first = next(n for n, t in tensors.items() if name not in n and t.ndim > 1)
        tensors[first] = tensors[first] * 1.5

    return change


def changed(
    given: ExtractOptions, kind: str, folder: Path, how: Callable[[dict[str, Any]], None]
) -> ExtractOptions:
    """The options with a model that was changed."""
    folder.mkdir()
    if given.weights is not None:
        file = rewritten(given.weights, folder / given.weights.name, how)
        return given.model_copy(update={"weights": file})
    before = Path(given.backbone.partition(":")[2])
    shutil.copytree(before, folder / "other")
    rewritten(before / "model.safetensors", folder / "other/model.safetensors", how)
    return given.model_copy(update={"backbone": f"hf:{folder / 'other'}"})


@pytest.fixture
def make(tmp_path: Path, animal: Zoo, data_spec: DataSpec) -> Callable[..., ExtractOptions]:
    def options(kind: str, **more: Any) -> ExtractOptions:
        given = {"run": tmp_path / "run", "data": data_spec("folders"), "workers": 0}
        return ExtractOptions(**{**given, **animal(kind).options, **more})

    return options


def written(run: Path) -> dict[str, int]:
    """When each shard was written."""
    return {str(file): file.stat().st_mtime_ns for file in run.rglob("0*.safetensors")}


@pytest.mark.parametrize(
    ("kind", "dtype"), [*((kind, "float32") for kind in HEADS), ("python", "bfloat16")]
)
def test_extract__takes_another_head_and_keeps_the_features(
    kind: str, dtype: str, make: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    first = make(kind, store_dtype=dtype)
    before = extract(first)
    shards = written(first.run)
    second = changed(first, kind, tmp_path / "second", another_head(HEADS[kind]))
    with pytest.raises(TargetExistsError, match="features stay if only the head is another"):
        extract(second)
    found = extract(second.model_copy(update={"overwrite": True}))
    assert written(first.run) == shards
    assert not np.allclose(found.head.weight, before.head.weight)
    # All that is there is as a new extraction gives it, byte by byte.
    anew = second.model_copy(update={"run": tmp_path / "anew"})
    extract(anew)
    assert contents(first.run) == contents(anew.run)
    assert found.base_accuracy() == extract(anew).base_accuracy()


@pytest.mark.parametrize("kind", HEADS)
def test_extract__another_backbone_makes_the_features_anew(
    kind: str,
    make: Callable[..., ExtractOptions],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = make(kind)
    extract(first)
    second = changed(first, kind, tmp_path / "second", another_backbone(HEADS[kind]))
    with caplog.at_level(logging.INFO):
        extract(second.model_copy(update={"overwrite": True}))
    assert "its backbone has other weights" in caplog.text
    anew = second.model_copy(update={"run": tmp_path / "anew"})
    extract(anew)
    assert contents(first.run) == contents(anew.run)


def test_extract__code_that_changed_is_seen_in_the_logits_of_stored_features(
    make: Callable[..., ExtractOptions],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same tensors, and another function of them: no fingerprint of tensors can tell."""
    first = make("python", backbone="python:tests.extract.models:pooled_as_set")
    extract(first)
    second = changed(first, "python", tmp_path / "second", another_head("fc"))
    monkeypatch.setattr(models, "POOLING", "max")
    with caplog.at_level(logging.INFO):
        extract(second.model_copy(update={"overwrite": True}))
    assert "its head gives other logits (relative difference" in caplog.text
    anew = second.model_copy(update={"run": tmp_path / "anew"})
    extract(anew)
    assert contents(first.run) == contents(anew.run)


def test_extract__head_that_cannot_be_left_out_makes_the_features_anew(
    make: Callable[..., ExtractOptions],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    animal: Zoo,
) -> None:
    first = make("onnx")
    extract(first)
    assert FeatureStore.open(first.run / "features/train").info["backbone_sha256"] is None
    graph = bytearray(Path(first.backbone.partition(":")[2]).read_bytes())
    tensor = np.ascontiguousarray(Head.load(first.run / "head.safetensors").weight).tobytes()
    start = bytes(graph).index(tensor)
    graph[start : start + 4] = np.float32(0.25).tobytes()
    (tmp_path / "model.onnx").write_bytes(bytes(graph))
    with caplog.at_level(logging.INFO):
        found = extract(
            first.model_copy(update={"backbone": f"onnx:{tmp_path}/model.onnx", "overwrite": True})
        )
    assert "its head cannot be told from the rest of it" in caplog.text
    assert found.head.weight[0, 0] == 0.25


def test_extract__images_that_changed_are_read_with_the_other_head(
    make: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    shutil.copytree(make("python").data, tmp_path / "data")
    first = make("python", data=str(tmp_path / "data"))
    extract(first)
    second = changed(first, "python", tmp_path / "second", another_head("fc"))
    images = sorted((tmp_path / "data/train").rglob("*.png"))
    shutil.copyfile(images[0], images[-1])
    given = second.model_copy(update={"overwrite": True})
    extract(given)
    anew = given.model_copy(update={"run": tmp_path / "anew"})
    extract(anew)
    assert contents(first.run) == contents(anew.run)


def test_extract__damaged_features_are_made_anew(
    make: Callable[..., ExtractOptions], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = make("python")
    extract(first)
    shard = next((first.run / "features/train").glob("0*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    second = changed(first, "python", tmp_path / "second", another_head("fc"))
    extract(second.model_copy(update={"overwrite": True}))
    assert "is damaged, and made anew" in caplog.text
    anew = second.model_copy(update={"run": tmp_path / "anew"})
    extract(anew)
    assert contents(first.run) == contents(anew.run)


def test_extract__what_was_made_from_the_old_head_is_stale(
    make: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    shutil.copytree(make("python").data, tmp_path / "data")
    for name in ("ant", "bee"):  # classes that are not rare
        for number in range(12):
            image = sorted((tmp_path / "data/train" / name).glob("*.png"))[0]
            shutil.copyfile(image, image.with_name(f"more {number}.png"))
    first = make("python", data=str(tmp_path / "data"), few_below=5, many_above=9)
    extract(first)
    find_neighbors(NeighborsOptions(run=first.run, k=1))
    second = changed(first, "python", tmp_path / "second", another_head("fc"))
    extract(second.model_copy(update={"overwrite": True}))
    with pytest.raises(StaleInputError, match="is stale: "):
        train(TrainOptions(run=first.run, epochs=1, seeds=1))
    assert Run(first.run).has("neighbors.safetensors")
