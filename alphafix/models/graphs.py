"""Backbones that are graphs: TorchScript, torch.export and ONNX.

A graph shows the linear operation that makes its logits; its input becomes a second output.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alphafix.checkpoints.formats.torch_format import load_torch_bytes
from alphafix.errors import AlphafixError, FileFormatError, InputError, option
from alphafix.models.model import Caught, Classifier, Wanted
from alphafix.models.preprocess import described
from alphafix.reading.boundary import reading
from alphafix.reading.schema import parse_json
from alphafix.reading.zips import check_zip


def torchscript_classifier(wanted: Wanted) -> Classifier:
    """Load a TorchScript archive.

    Raises:
        FileFormatError: If it is no whole archive.
        InputError: If its logits are not made by a linear layer.
    """
    wanted.refuse_args()
    spec, file = wanted.spec, graph_file(wanted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the format is old, and still used
            module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise damaged(file, error, "an archive that torch.jit.save wrote") from error
    module.eval()
    graph = module.graph.copy()
    torch._C._jit_pass_inline(graph)
    caught = _catch_in_script(module, graph, spec)
    preprocess = wanted.preprocess or described(spec, wanted.overrides)
    return Classifier(caught.model, preprocess, file, caught=caught)


def _catch_in_script(module: Any, graph: Any, spec: str) -> Caught:
    outputs = list(graph.outputs())
    node = outputs[0].node()
    if len(outputs) != 1 or node.kind() != "aten::linear":
        raise no_linear(spec, node.kind())
    features, weight, bias = node.inputs()
    graph.registerOutput(features)
    graph.makeMultiOutputIntoTuple()
    function = torch._C._create_function_from_graph("forward", graph)
    parameters = dict(module.named_parameters()) | dict(module.named_buffers())
    (own, name), (own_bias, _) = (_script_tensor(value, parameters) for value in (weight, bias))
    return Caught(ScriptModel(module, function), own, own_bias, name)


def _script_tensor(value: Any, parameters: Mapping[str, Tensor]) -> tuple[Any, str]:
    """The tensor (or None) that a graph reads, and its name; frozen ones have none."""
    if value.node().kind() == "prim::Constant":
        return value.toIValue(), ""
    name = _script_path(value)
    return parameters[name], name


def _script_path(value: Any) -> str:
    """Full name of a parameter that a graph reads attribute by attribute."""
    parts: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        parts.insert(0, node.s("name"))
        node = next(iter(node.inputs())).node()
    return ".".join(parts)


class ScriptModel(nn.Module):
    """A TorchScript module under a graph that gives logits and features.

    Args:
        module: Holds the weights.
        function: Takes the module and the images.
    """

    def __init__(self, module: Any, function: Any) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map N images to N x D features and N x C logits."""
        logits, features = self._function(self.module._c, images)
        return features, logits


def export_classifier(wanted: Wanted) -> Classifier:
    """Load a model that torch.export saved.

    Raises:
        FileFormatError: If it is no such file.
        InputError: If its logits are not made by a linear layer.
    """
    wanted.refuse_args()
    spec, file = wanted.spec, graph_file(wanted)
    try:
        _refuse_pickles(file)
        program = torch.export.load(file)
    except AlphafixError:
        raise
    except Exception as error:  # torch.export.load raises whatever its parts raise
        raise damaged(file, error, "a .pt2 file that torch.export.save wrote") from error
    graph: Any = program.module()
    caught, shape = _catch_in_export(graph, spec)
    channels, side = (shape[1], shape[3]) if len(shape) == 4 else (3, None)
    preprocess = wanted.preprocess or described(
        spec,
        wanted.overrides,
        side=side if isinstance(side, int) else None,
        channels=channels if isinstance(channels, int) else 3,
    )
    return Classifier(caught.model, preprocess, file, caught=caught)


def _refuse_pickles(path: Path) -> None:
    """Refuse an archive that torch could only read by running what is in it.

    torch.export.load falls back on unpickling whatever it cannot read as tensors, and unpickles
    weights of which the archive itself says so.

    Raises:
        FileFormatError: If a part of it is a pickle of more than tensors and plain values.
    """
    what = "an archive of torch.export"
    check_zip(path, what, packed=True)
    with reading(path, what), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        said = {
            entry["path_name"]
            for name in names
            if name.endswith(".json")
            for entry in _entries(parse_json(archive.read(name)))
            if entry.get("use_pickle") and isinstance(entry.get("path_name"), str)
        }
        for name in names:
            last = name.rpartition("/")[2]
            pickled = last.endswith((".pt", ".pth", ".pkl")) or last in said
            if not pickled and not last.startswith("custom_obj"):
                continue
            try:
                load_torch_bytes(archive.read(name))
            except AlphafixError as error:
                raise FileFormatError(
                    f"{path} is refused: a part of it could only be read by running code, or asks "
                    "for too much",
                    got=f"{name}: {error.got}",
                    expected="tensors and plain values",
                    todo="save it again with torch.export.save, with tensors as example inputs",
                ) from error


def _entries(data: object) -> Iterator[dict[str, Any]]:
    """All objects of a JSON document."""
    stack = [data]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack += value.values()
        elif isinstance(value, list):
            stack += value


def _catch_in_export(graph: Any, spec: str) -> tuple[Caught, list[Any]]:
    output = next(node for node in graph.graph.nodes if node.op == "output")
    images = next(node for node in graph.graph.nodes if node.op == "placeholder")
    results = output.args[0]
    linear = results[0] if isinstance(results, (tuple, list)) and len(results) == 1 else results
    if getattr(linear, "target", None) is not torch.ops.aten.linear.default:
        raise no_linear(spec, str(getattr(linear, "target", results)))
    # In a graph that was loaded, torch gives the bias by position or by name, as versions differ.
    features, weight, bias = (*linear.args, linear.kwargs.get("bias"))[:3]
    shape = list(images.meta["val"].shape)
    # The graph's code unpacks its inputs and packs its outputs; a bare tuple needs neither.
    output.args = ((features, linear),)
    graph.graph.set_codegen(torch.fx.graph.CodeGen())
    graph.recompile()
    batch = shape[0] if isinstance(shape[0], int) else None
    parameters = dict(graph.named_parameters()) | dict(graph.named_buffers())
    own = None if bias is None else parameters[bias.target]
    model = FixedBatch(graph, batch) if batch is not None else graph
    return Caught(model, parameters[weight.target], own, weight.target), shape


class FixedBatch(nn.Module):
    """Runs a graph that takes no other than ``size`` images at once.

    Args:
        model: The graph; gives tensors with one row an image.
        size: Its batch size.
    """

    def __init__(self, model: Any, size: int) -> None:
        super().__init__()
        self.model = model
        self.size = size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map N images, the last part filled up, to N x D features and N x C logits."""
        parts = []
        for part in torch.split(images, self.size):
            missing = self.size - len(part)
            filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
            parts.append([result[: len(part)] for result in self.model(filled)])
        features, logits = (torch.cat(results) for results in zip(*parts, strict=True))
        return features, logits


def no_linear(spec: str, found: str) -> InputError:
    """Return the error of a graph whose logits are made otherwise."""
    return InputError(
        f"the logits of {spec} are not made by a linear layer",
        got=found,
        expected="a linear operation whose result is the graph's only output",
        todo="export the model so that it returns its logits, without softmax; a head of "
        "another kind alphafix does not correct",
    )


def graph_file(wanted: Wanted) -> Path:
    """The file of a graph: the weights if they are given, a patched copy say.

    Raises:
        InputError: If it is not there.
    """
    file = wanted.weights or Path(wanted.name)
    if not file.is_file():
        raise InputError(
            f"{file if wanted.weights else wanted.spec} is not there",
            expected="a file",
            todo=f"correct {option('backbone')}",
        )
    return file


def damaged(file: Path, error: Exception, expected: str) -> FileFormatError:
    """Return the error of a model file that cannot be loaded."""
    lines = str(error).strip().splitlines()
    return FileFormatError(
        f"{file} cannot be loaded",
        got=lines[0] if lines else repr(error),
        expected=expected,
        todo="copy the file again, or export the model again",
    )
