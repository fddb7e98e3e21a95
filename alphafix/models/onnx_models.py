"""Backbones as ONNX files, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alphafix.errors import MissingPackageError
from alphafix.models.graphs import FixedBatch, damaged, described, existing_file, no_linear
from alphafix.models.model import Caught, Classifier
from alphafix.models.preprocess import Overrides


def onnx_classifier(name: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load an ONNX classifier.

    Raises:
        FileFormatError: If it is no whole ONNX file.
        InputError: If its logits are not made by a linear layer.
        MissingPackageError: If onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "ONNX models need onnx and onnxruntime, which are not installed",
            todo="pip install 'alphafix[onnx]'",
        ) from error
    spec = f"onnx:{name}"
    try:
        model = onnx.load(existing_file(name, spec))
    except Exception as error:  # protobuf's errors are of many types
        raise damaged(name, error, "an ONNX file") from error
    gemm = _last_linear(model.graph, spec)
    weight, bias = gemm.weight_and_bias(model.graph)
    features = onnx.helper.make_tensor_value_info(gemm.features, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(features)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=onnxruntime.get_available_providers()
    )
    shape = [
        axis.dim_value if axis.HasField("dim_value") else None
        for axis in model.graph.input[0].type.tensor_type.shape.dim
    ]
    run: nn.Module = OnnxModel(session)
    if shape and shape[0]:
        run = FixedBatch(run, shape[0])
    caught = Caught(run, weight, bias, gemm.weight)
    return Classifier(run, described(spec, overrides, shape), weights or Path(name), caught=caught)


class OnnxModel(nn.Module):
    """Runs an ONNX session whose outputs are logits and features.

    Args:
        session: The session.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self._input = session.get_inputs()[0].name

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map N images to N x D features and N x C logits."""
        array = np.ascontiguousarray(images.float().cpu().numpy())
        logits, features = self._session.run(None, {self._input: array})
        return torch.from_numpy(features), torch.from_numpy(logits)


class _Linear:
    """The operation that makes the logits: Gemm, or MatMul with or without Add."""

    def __init__(self, features: str, weight: str, bias: str | None, rows: bool) -> None:
        self.features = features
        self.weight = weight
        self.bias = bias
        self.rows = rows  # whether the weight is stored as C x D

    def weight_and_bias(self, graph: Any) -> tuple[Tensor, Tensor | None]:
        from onnx import numpy_helper

        stored = {tensor.name: tensor for tensor in graph.initializer}
        weight = torch.from_numpy(np.array(numpy_helper.to_array(stored[self.weight])))
        bias = None
        if self.bias is not None:
            bias = torch.from_numpy(np.array(numpy_helper.to_array(stored[self.bias])))
        return (weight if self.rows else weight.T.contiguous()), bias


def _last_linear(graph: Any, spec: str) -> _Linear:
    made_by = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name for tensor in graph.initializer}
    if len(graph.output) != 1:
        raise no_linear(spec, f"{len(graph.output)} outputs")
    node = made_by[graph.output[0].name]
    if node.op_type == "Gemm" and node.input[1] in stored:
        flags = {item.name: item for item in node.attribute}
        plain = all(flags[key].f == 1.0 for key in ("alpha", "beta") if key in flags)
        if plain and not ("transA" in flags and flags["transA"].i):
            rows = "transB" in flags and bool(flags["transB"].i)
            bias = node.input[2] if len(node.input) > 2 else None
            return _Linear(node.input[0], node.input[1], bias, rows)
    bias = None
    if node.op_type == "Add":
        constants = [name for name in node.input if name in stored]
        others = [name for name in node.input if name not in stored]
        if len(constants) == 1 and len(others) == 1 and others[0] in made_by:
            bias, node = constants[0], made_by[others[0]]
    if node.op_type == "MatMul" and node.input[1] in stored:
        return _Linear(node.input[0], node.input[1], bias, rows=False)
    raise no_linear(spec, node.op_type)
