"""Backbones as ONNX files, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alphafix.checkpoints.formats.format import Checkpoint, Linear
from alphafix.checkpoints.formats.onnx_format import OnnxFormat
from alphafix.checkpoints.formats.tensors import read_values
from alphafix.errors import MissingPackageError
from alphafix.models.graphs import FixedBatch, described, existing_file, no_linear
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
    file = existing_file(name, spec)
    checkpoint = OnnxFormat().open(file)
    model = onnx.load(file)
    layer = _last_linear(model.graph, checkpoint, spec)
    features = onnx.helper.make_tensor_value_info(layer.features, onnx.TensorProto.FLOAT, None)
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
    weight = _values(checkpoint, layer.weight)
    bias = None if layer.bias is None else _values(checkpoint, layer.bias)
    caught = Caught(run, weight.T.contiguous() if layer.transposed else weight, bias, layer.weight)
    return Classifier(run, described(spec, overrides, shape), weights or file, caught=caught)


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


def _values(checkpoint: Checkpoint, name: str) -> Tensor:
    return torch.from_numpy(read_values(checkpoint.tensor(name)))


def _last_linear(graph: Any, checkpoint: Checkpoint, spec: str) -> Linear:
    """The layer whose result is the graph's only output."""
    outputs = [output.name for output in graph.output]
    for layer in checkpoint.linears or ():
        if [layer.result] == outputs and len(checkpoint.tensor(layer.weight).shape) == 2:
            return layer
    made_by = [node.op_type for node in graph.node if set(node.output) & set(outputs)]
    raise no_linear(spec, ", ".join(made_by))
