"""Backbones as ONNX files, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alphafix.checkpoints.formats.format import Checkpoint, Linear
from alphafix.checkpoints.formats.onnx_format import OnnxFormat
from alphafix.checkpoints.formats.onnx_graph import Graph
from alphafix.checkpoints.formats.tensors import read_values
from alphafix.errors import FileFormatError, InputError, MissingPackageError, option, some
from alphafix.models.graphs import FixedBatch, graph_file, no_linear
from alphafix.models.model import Caught, Classifier, Wanted
from alphafix.models.preprocess import described


def onnx_classifier(wanted: Wanted) -> Classifier:
    """Load an ONNX classifier.

    Raises:
        FileFormatError: If it is no whole ONNX file, or onnxruntime cannot run it.
        InputError: If its logits are not made by a linear layer, or it takes no images.
        MissingPackageError: If onnx or onnxruntime is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise _missing() from error
    wanted.refuse_args()
    file = graph_file(wanted)
    checkpoint = OnnxFormat().open(file)
    model = onnx.load(file)
    graph = Graph(model.graph, {tensor.name: tensor.shape for tensor in checkpoint.tensors})
    images = ImageInput.of(graph, file)
    layer = _head(graph, checkpoint, wanted.spec)
    if layer.features not in graph.outputs:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer.features))
    outputs = [graph.outputs[0], layer.features]
    run: nn.Module = OnnxModel(_session(model, file), images, outputs)
    if images.batch is not None:
        run = FixedBatch(run, images.batch)
    weight = _values(checkpoint, layer.weight) * layer.factor
    weight = weight.flatten(1) if weight.ndim > 2 else weight
    bias = None if layer.bias is None else _values(checkpoint, layer.bias) * layer.bias_factor
    caught = Caught(
        run,
        weight.T.contiguous() if layer.transposed else weight,
        bias,
        layer.weight,
        plain_rows=True,
    )
    preprocess = wanted.preprocess or described(
        wanted.spec, wanted.overrides, side=images.side, channels=images.channels
    )
    precision = "fp16" if images.dtype == "float16" else "fp32"
    return Classifier(run, preprocess, file, caught=caught, precision=precision)


def _missing() -> MissingPackageError:
    return MissingPackageError(
        "ONNX models need onnx and onnxruntime, which are not installed",
        todo="pip install 'alphafix[onnx]'",
    )


def _session(model: Any, file: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing() from error
    providers = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    except Exception as error:  # onnxruntime raises types of its own, and plain ones
        raise FileFormatError(
            f"{file} cannot be run by onnxruntime {onnxruntime.__version__}",
            got=str(error).strip().splitlines()[0],
            expected="a graph that this version takes",
            todo="update onnxruntime, or export the model again for an older version of ONNX "
            "(its file can be patched as it is)",
        ) from error


@dataclass(frozen=True)
class ImageInput:
    """The input of a graph that takes images.

    Attributes:
        name: Its name.
        dtype: NumPy's name of its element type.
        batch: How many images at once, or None for any number.
        channels: 3, or 1 for grey images.
        side: Height and width, or None where the graph does not say them.
        channels_last: Whether it is N x H x W x channels.
    """

    name: str
    dtype: str
    batch: int | None
    channels: int
    side: int | None
    channels_last: bool

    @classmethod
    def of(cls, graph: Graph, file: Path) -> ImageInput:
        """The input of a graph.

        Raises:
            InputError: If it has several, or one of another kind.
        """
        if len(graph.inputs) != 1:
            raise _no_images(file, f"inputs {some(value.name for value in graph.inputs)}")
        kind = graph.inputs[0].type.tensor_type
        shape: list[int | None] = [None] * 4  # a graph need not say it
        if kind.HasField("shape"):
            shape = [a.dim_value if a.HasField("dim_value") else None for a in kind.shape.dim]
        dtype = {1: "float32", 10: "float16", 11: "float64"}.get(kind.elem_type)
        if dtype is None or len(shape) != 4:
            what = "other elements than float" if dtype is None else f"{len(shape)} axes"
            raise _no_images(file, f"{graph.inputs[0].name} of shape {shape} with {what}")
        batch, second, third, last = shape
        # Exports of Keras and TensorFlow have the channels last.
        channels_last = last in (1, 3) and second not in (1, 3)
        channels = last if channels_last else second
        side = third if channels_last else last
        return cls(graph.inputs[0].name, dtype, batch or None, channels or 3, side, channels_last)


def _no_images(file: Path, got: str) -> InputError:
    return InputError(
        f"{file} takes something else than a batch of images",
        got=got,
        expected="one input of floats, N x channels x H x W or N x H x W x channels",
        todo="export the classifier alone, without what prepares its input",
    )


class OnnxModel(nn.Module):
    """Runs an ONNX session whose outputs are logits and features.

    Args:
        session: The session.
        images: Its input.
        outputs: Names of logits and features.
    """

    def __init__(self, session: Any, images: ImageInput, outputs: list[str]) -> None:
        super().__init__()
        self._session = session
        self._images = images
        self._outputs = outputs

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map N x channels x H x W images to N x D features and N x C logits."""
        array = images.float().cpu().numpy().astype(self._images.dtype)
        if self._images.channels_last:
            array = array.transpose(0, 2, 3, 1)
        given = {self._images.name: np.ascontiguousarray(array)}
        try:
            logits, features = self._session.run(self._outputs, given)
        except Exception as error:  # onnxruntime raises types of its own
            raise InputError(
                "onnxruntime cannot run the graph on these images",
                got=str(error).strip().splitlines()[0],
                expected=f"images that the input {self._images.name} takes, here of shape "
                f"{array.shape}",
                todo=f"correct {option('image_size')}, or export the model for this size",
            ) from error
        return _rows(features), _rows(logits)


def _rows(values: Any) -> Tensor:
    """One row an image, float32: axes of length 1 beside them say nothing."""
    found = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return found.reshape(len(found), -1)


def _values(checkpoint: Checkpoint, name: str) -> Tensor:
    return torch.from_numpy(read_values(checkpoint.tensor(name)))


def _head(graph: Graph, checkpoint: Checkpoint, spec: str) -> Linear:
    """The layer whose result is the graph's only output."""
    for layer in checkpoint.linears or ():
        if graph.makes_logits(layer):
            return layer
    raise no_linear(spec, ", ".join(map(graph.made_by, graph.outputs)))
