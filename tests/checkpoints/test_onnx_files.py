"""ONNX graphs: Gemm, and MatMul with Add; weights inside and outside; damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from alphafix.checkpoints import find_head, open_checkpoint
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import FileFormatError, InputError
from alphafix.values.head import Head
from tests.checkpoints.models import make_correction, run_onnx, write_stages
from tests.stages import patch

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(12, 8)).astype(np.float32)
BIAS = RNG.normal(size=12).astype(np.float32)


def save_graph(path: Path, nodes: list[Any], tensors: dict[str, Any], **options: Any) -> None:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 12])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, {"author": "someone"})
    onnx.checker.check_model(model)
    onnx.save(model, path, **options)


GRAPHS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "gemm transB": (
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        {"w": WEIGHT, "b": BIAS},
    ),
    "gemm": (
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        {"w": WEIGHT.T.copy(), "b": BIAS},
    ),
    "matmul and add": (
        [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Add", ["s", "b"], ["y"])],
        {"w": WEIGHT.T.copy(), "b": BIAS},
    ),
    "add and matmul the other way": (
        [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Add", ["b", "s"], ["y"])],
        {"w": WEIGHT.T.copy(), "b": BIAS},
    ),
    "transpose and matmul": (
        [
            helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "t"], ["s"]),
            helper.make_node("Add", ["s", "b"], ["p"]),
            helper.make_node("Identity", ["p"], ["y"]),
        ],
        {"w": WEIGHT, "b": BIAS},
    ),
}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_patch__graph(name: str, external: bool, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "model.onnx"
    options: dict[str, Any] = {}
    if external:
        options = {
            "save_as_external_data": True,
            "size_threshold": 0,
            "location": "model.onnx.data",
        }
    nodes, tensors = GRAPHS[name]
    save_graph(path, nodes, tensors, **options)
    head = find_head(path)
    np.testing.assert_array_equal(head.weight, WEIGHT)
    np.testing.assert_array_equal(head.bias_or_zeros, BIAS)
    correction = make_correction(head)
    run = write_stages(tmp_path / "run", head, correction)

    target = patch(PatchOptions(run=run.folder, file=path)).target

    onnx.checker.check_model(str(target))
    features = RNG.normal(size=(5, 8)).astype(np.float32)
    expected = correction.apply(head).logits(features)
    found = run_onnx(target, torch.from_numpy(features))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    old, new = (onnx.load(p, load_external_data=False) for p in (path, target))
    assert {p.key: p.value for p in new.metadata_props}["author"] == "someone"
    # But for what is named here the graphs are the same.
    del new.metadata_props[1:]
    for before, after in zip(old.graph.initializer, new.graph.initializer, strict=True):
        if before.HasField("raw_data"):
            after.raw_data = before.raw_data
        for entry in after.external_data:
            entry.value = entry.value.replace(".alphafix", "")
    assert new == old


def test_patch__embedding_that_is_shared(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("Gather", ["w", "i"], ["e"]),
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["e", "t"], ["y"]),
    ]
    save_graph(path, nodes, {"w": WEIGHT, "i": np.array([1, 2])})
    run = write_stages(tmp_path / "run", Head(WEIGHT), make_correction(Head(WEIGHT)))
    with pytest.raises(InputError, match=r"(?s)is shared.*(Gather|MatMul) uses the same bytes"):
        patch(PatchOptions(run=run.folder, file=path))


def test_find_head__quantised_graph(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    path, quantised = tmp_path / "model.onnx", tmp_path / "quantised.onnx"
    save_graph(path, *GRAPHS["gemm transB"])
    quantize_dynamic(path, quantised)
    with pytest.raises(InputError, match="is quantised"):
        find_head(quantised, num_classes=12)


def test_find_head__hidden_layers_are_no_heads(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    square = RNG.normal(size=(8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "hidden"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w", "b"], ["l"], transB=1),
        helper.make_node("Softmax", ["l"], ["y"]),
    ]
    save_graph(path, nodes, {"hidden": square, "w": WEIGHT, "b": BIAS})
    source = find_head(path).source
    assert source is not None
    assert (source.weights, source.biases) == (("w",), ("b",))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_open__truncated(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_graph(path, *GRAPHS["gemm"])
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(FileFormatError, match="got:"):
        open_checkpoint(path)


def test_open__external_data_gone_short_or_outside(tmp_path: Path) -> None:
    path, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    save_graph(
        path,
        *GRAPHS["gemm"],
        save_as_external_data=True,
        size_threshold=0,
        location=data.name,
    )
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(FileFormatError, match="does not fit"):
        open_checkpoint(path)
    data.unlink()
    with pytest.raises(FileFormatError, match="external data is missing"):
        open_checkpoint(path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../outside.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="outside its folder"):
        open_checkpoint(path)
