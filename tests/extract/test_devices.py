"""Extraction on each device: its features against those of the CPU in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.features.store import FeatureStore
from alphafix.models.proof import TOLERANCE
from tests.common import make_problem, write_run
from tests.devices import on_each_device
from tests.extract.zoo import Animal
from tests.stages import extract, find_neighbors


@pytest.fixture(scope="module")
def expected(
    data_spec: Callable[[str], str],
    animal: Callable[[str], Animal],
    tmp_path_factory: pytest.TempPathFactory,
) -> FeatureStore:
    """Features of the training images as the CPU computes them in float32."""
    run = tmp_path_factory.mktemp("expected")
    extract(options(run, data_spec, animal, device="cpu", precision="fp32"))
    return FeatureStore.open(run / "features/train")


def options(
    run: Path, data_spec: Callable[[str], str], animal: Callable[[str], Animal], **more: Any
) -> ExtractOptions:
    given: dict[str, Any] = animal("python").options
    data = data_spec("folders")
    return ExtractOptions(
        run=run, data=data, workers=0, split="train", few_below=5, **given, **more
    )


@on_each_device
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_extract__on_each_device_in_each_precision(
    precision: str,
    device: str,
    expected: FeatureStore,
    data_spec: Callable[[str], str],
    animal: Callable[[str], Animal],
    tmp_path: Path,
) -> None:
    if (device, precision) == ("cpu", "fp16"):
        pytest.skip("few CPUs compute in float16")
    extract(options(tmp_path, data_spec, animal, device=device, precision=precision))
    found = FeatureStore.open(tmp_path / "features/train")
    assert found.ids == expected.ids
    largest = np.abs(expected.array()).max()
    differs = np.abs(found.array() - expected.array()).max() / largest
    assert differs <= max(TOLERANCE[precision], 1e-3)  # TF32 in convolutions
    assert found.info["provenance"]["options"]["precision"] == precision


@on_each_device
def test_extract__decodes_jpeg_files_where_the_model_is(device: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "data/train" / "abc"[number % 3] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC).save(path)
    torch.manual_seed(0)
    weights = timm.create_model("resnet10t", num_classes=3).state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    stores = []
    for decode in ("torch", "pillow"):
        run = tmp_path / decode
        given = ExtractOptions(
            run=run,
            backbone="timm:resnet10t",
            weights=tmp_path / "model.safetensors",
            data=str(tmp_path / "data"),
            image_size=32,
            workers=0,
            few_below=5,
            precision="fp32",
            device=device,  # type: ignore[arg-type]
            decode=decode,
        )
        extract(given)
        stores.append(FeatureStore.open(run / "features/train"))
    assert [store.info["decoder"] for store in stores] == ["torch", "pillow"]
    one, other = (store.array() for store in stores)
    assert np.abs(one - other).max() <= 0.1 * np.abs(other).max()


@on_each_device
def test_neighbors__are_the_same_wherever_faiss_searches(device: str, tmp_path: Path) -> None:
    """FAISS takes a GPU by itself where it has one."""
    problem = make_problem()
    write_run(tmp_path / "run", problem)
    _, found = find_neighbors(NeighborsOptions(run=tmp_path / "run", k=3))
    means = problem.features["train"].astype(np.float64)
    labels = problem.labels["train"]
    centers = np.stack([means[labels == c].mean(0) for c in range(len(problem.classes))])
    for own, near in zip(found.few, found.ids, strict=True):
        base = problem.classes.base
        distance = np.linalg.norm(centers[base] - centers[own], axis=1)
        assert near.tolist() == base[np.argsort(distance, kind="stable")[:3]].tolist()
