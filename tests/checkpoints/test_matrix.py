"""Real models: patched, loaded strictly by the library that made them, logits compared."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from alphafix.checkpoints import find_head, load_state_dict
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.patch.work import PatchResult
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.checkpoints.models import (
    BUILDERS,
    CLASSES,
    DTYPES,
    TOLERANCE,
    build,
    export_onnx,
    features_of,
    images,
    logits_of,
    make_correction,
    run_onnx,
    write_stages,
)
from tests.stages import patch

MODELS = [pytest.param(n, d, id=f"{n}-{d}") for n in BUILDERS for d in DTYPES]
RIDE = {"normalised": True, "factor": 30.0}


def prepare(name: str, path: Path, model: nn.Module, run: Path) -> tuple[Head, Correction]:
    """Find the head as `alphafix extract` does, and make a correction that the model can hold."""
    options = RIDE if name == "ride" else {}
    head = find_head(path, num_classes=CLASSES, **options)  # type: ignore[arg-type]
    experts = len(head.source.weights) if head.source else 1
    correction = make_correction(head, keep_norms=name == "ride", experts=experts)
    write_stages(run, head, correction)
    return head, correction


def patched(path: Path, run: Path, output: Path | None = None) -> PatchResult:
    return patch(PatchOptions(run=run, file=path, output=output))


def check_logits(
    found: np.ndarray, model: nn.Module, head: Head, correction: Correction, dtype: str
) -> None:
    features = features_of(model, images(dtype))
    expected = correction.apply(head).logits(features)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[dtype] * scale, rtol=0)
    # The correction is far larger than the tolerance: a file left as it was would be seen.
    assert np.abs(expected - head.logits(features)).max() > 2 * TOLERANCE[dtype] * scale


@pytest.mark.parametrize(("name", "dtype"), MODELS)
def test_patch__safetensors(name: str, dtype: str, tmp_path: Path) -> None:
    model, path = build(name, dtype), tmp_path / "model.safetensors"
    save_file(model.state_dict(), path, metadata={"format": "pt"})
    head, correction = prepare(name, path, model, tmp_path / "run")

    result = patched(path, tmp_path / "run")

    assert result.target == tmp_path / "model.alphafix.safetensors"
    again = build(name, dtype, seed=5)
    again.load_state_dict(load_file(result.target), strict=True)
    check_logits(logits_of(again, images(dtype)), model, head, correction, dtype)


@pytest.mark.parametrize(("name", "dtype"), MODELS)
def test_patch__torch_file_with_prefix(name: str, dtype: str, tmp_path: Path) -> None:
    model, path = build(name, dtype), tmp_path / "model.pth"
    wrapped = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, path)
    head, correction = prepare(name, path, model, tmp_path / "run")

    result = patched(path, tmp_path / "run")

    again = build(name, dtype, seed=5)
    again.load_state_dict(load_state_dict(result.target), strict=True)
    check_logits(logits_of(again, images(dtype)), model, head, correction, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), MODELS)
def test_patch__torchscript(name: str, dtype: str, tmp_path: Path) -> None:
    model, path = build(name, dtype), tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            model, images(dtype), strict=False
        )
        traced.save(path)
        head, correction = prepare(name, path, model, tmp_path / "run")

        result = patched(path, tmp_path / "run")

        again = torch.jit.load(result.target)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            out = again(images(dtype))
    logits = (out["logits"] if isinstance(out, dict) else out).float().numpy()
    check_logits(logits, model, head, correction, dtype)


# The older exporter cannot write this one; the newer one is tested below.
ONNX = [m for m in MODELS if m.id != "transformers-bfloat16"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), ONNX)
def test_patch__onnx(name: str, dtype: str, tmp_path: Path) -> None:
    model, path = build(name, dtype), tmp_path / "model.onnx"
    export_onnx(model, images(dtype), path, dynamo=False)
    weights = tmp_path / "model.safetensors"
    save_file(model.state_dict(), weights)
    # As a user has it: extracted from the weights, deployed as ONNX.
    head, correction = prepare(name, weights, model, tmp_path / "run")

    result = patched(path, tmp_path / "run")

    check_logits(run_onnx(result.target, images(dtype)), model, head, correction, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("timm-vit", "float32"), ("transformers", "bfloat16"), ("lws", "float16")],
)
def test_patch__onnx_external_data(name: str, dtype: str, tmp_path: Path) -> None:
    model, path = build(name, dtype), tmp_path / "model.onnx"
    export_onnx(model, images(dtype), path, dynamo=True, external_data=True, verbose=False)
    assert (tmp_path / "model.onnx.data").is_file()
    head, correction = prepare(name, path, model, tmp_path / "run")

    beside = patched(path, tmp_path / "run")
    elsewhere = patched(path, tmp_path / "run", tmp_path / "other")

    assert (tmp_path / "model.alphafix.onnx.data").is_file()
    assert sorted(p.name for p in (tmp_path / "other").iterdir()) == [
        "model.onnx",
        "model.onnx.data",
    ]
    for target in (beside.target, elsewhere.target):
        check_logits(run_onnx(target, images(dtype)), model, head, correction, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_patch__transformers_sharded(dtype: str, tmp_path: Path) -> None:
    from transformers import ViTForImageClassification

    model, folder = build("transformers", dtype), tmp_path / "model"
    model.save_pretrained(folder, max_shard_size="30KB")  # type: ignore[operator]
    index = folder / "model.safetensors.index.json"
    head, correction = prepare("transformers", index, model, tmp_path / "run")

    beside = patched(index, tmp_path / "run")
    patched(folder, tmp_path / "run", tmp_path / "copy")

    assert beside.target.name == "model.safetensors.index.alphafix.json"
    places = json.loads(index.read_text())["weight_map"]
    assert len(set(places.values())) > 1
    loaded: dict[Path, dict[str, Any]] = {folder: {"variant": "alphafix"}, tmp_path / "copy": {}}
    for place, options in loaded.items():
        load: Any = ViTForImageClassification.from_pretrained
        again, report = load(place, output_loading_info=True, **options)
        assert not any(report.values())
        logits = logits_of(again.to(DTYPES[dtype]).eval(), images(dtype))
        check_logits(logits, model, head, correction, dtype)
