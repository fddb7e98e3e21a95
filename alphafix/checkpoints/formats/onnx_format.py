"""ONNX files: weights inside the file or in external data beside it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from alphafix.checkpoints.formats._protobuf import (
    Field,
    content,
    encoded,
    fields,
    packed,
    text_entry,
)
from alphafix.checkpoints.formats.format import Checkpoint, Format, Linear, Splices, free_key
from alphafix.checkpoints.formats.onnx_graph import Graph, matrix_shape
from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.formats.tensors import BITS, Tensor
from alphafix.errors import FileFormatError, InputError, MissingPackageError
from alphafix.files import METADATA_KEY
from alphafix.reading.boundary import reading, real
from alphafix.reading.limits import MOST_AXES, MOST_ELEMENTS

_WHOLE = "a whole ONNX file"

# TensorProto.DataType -> element type (onnx.proto).
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    17: "float8_e4m3fn",
    19: "float8_e5m2",
}

# Field numbers (onnx.proto).
_MODEL_GRAPH, _MODEL_METADATA, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 14, 1, 5
_NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR = 2, 4, 5, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL = 1, 2, 4, 8, 9, 10, 13


class OnnxFormat(Format):
    """An ONNX graph with its weights."""

    name = "onnx"

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell by the name: protobuf messages have no mark of their own."""
        return path.suffix == ".onnx"

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read the graph and where its weights lie.

        Raises:
            MissingPackageError: If the package onnx is not installed.
            InputError: If it keeps the weights of its classifier where none can be changed.
            FileFormatError: If the file is damaged, or its external data is missing, too short or
                outside of its folder.
        """
        model = load_model(path)
        tensors = tuple(_tensors(path, folder or path.parent))
        graph = Graph(model.graph, {tensor.name: tensor.shape for tensor in tensors})
        linears = tuple(graph.linears())
        if not linears and any(node.op_type == "LinearClassifier" for node in graph.nodes):
            raise InputError(
                f"{path} is a linear model of scikit-learn, with its weights in the graph itself",
                got="LinearClassifier",
                expected="a layer whose weights are stored tensors",
                todo="correct the estimator with alphafix.checkpoints.with_correction, then "
                "export it again",
            )
        shapes = _layer_shapes(linears, tensors)
        tensors = tuple(
            Tensor(t.name, t.dtype, shapes.get(t.name, t.shape), t.file, t.offset, users=users)
            for t in tensors
            for users in [tuple(graph.users(t.name)[1:])]
        )
        return Checkpoint(
            path,
            self,
            tensors,
            tuple(dict.fromkeys([path, *(tensor.file for tensor in tensors)])),
            {entry.key: entry.value for entry in model.metadata_props},
            linears=linears,
        )

    def files(self, path: Path) -> tuple[Path, ...]:
        """The file and its external data."""
        return self.open(path).files

    def seal(self, checkpoint: Checkpoint, splices: Splices, note: str | None) -> Splices:
        """Append the note to the metadata of the graph's file; other entries stay."""
        if note is None:
            return splices
        path = checkpoint.path
        entry = text_entry(_MODEL_METADATA, free_key(checkpoint.metadata, METADATA_KEY), note)
        # Fields may stand in any order, so that an entry can follow all that is there.
        appended = Splice(path.stat().st_size, 0, entry)
        return {**splices, path: (*splices.get(path, ()), appended)}

    def renaming(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> list[Splice]:
        """Give external data other names.

        A longer name makes each message around it longer, and their lengths with it.
        """
        found: list[Splice] = []
        with checkpoint.path.open("rb") as file:
            for graph in fields(file, 0, checkpoint.path.stat().st_size):
                if graph.number != _MODEL_GRAPH or not graph.is_bytes:
                    continue
                growth = 0
                for tensor in fields(file, graph.offset, graph.value):
                    if tensor.number == _GRAPH_INITIALIZER and tensor.is_bytes:
                        growth += _relocate(file, tensor, names, found)
                if growth:
                    _lengthen(graph, growth, found)
        return found


def load_model(path: Path) -> Any:
    """Load the graph, without external data.

    Raises:
        MissingPackageError: If the package onnx is not installed.
        FileFormatError: If it is no ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError(
            "ONNX files need the package onnx",
            got=error,
            todo="install it: pip install 'alphafix[onnx]'",
        ) from error
    with reading(path, _WHOLE, todo="copy the file again, or export the model again"):
        model = onnx.load(path, load_external_data=False)
    if not model.graph.node:
        _refuse(path, "it holds no graph", "no operations", "an exported model")
    results = Counter(name for node in model.graph.node for name in node.output if name)
    if not all(node.output for node in model.graph.node) or max(results.values(), default=1) > 1:
        _refuse(path, "it is no graph", "values of none or of two operations", "one operation each")
    return model


def _layer_shapes(
    linears: Sequence[Linear], tensors: Sequence[Tensor]
) -> dict[str, tuple[int, ...]]:
    """The shapes that layers have for their tensors: weights of two axes, biases of one.

    Axes of length 1 beside these (a bias of shape 1 x C, say) do not change where elements are.
    """
    stored = {tensor.name: tensor.shape for tensor in tensors}
    found: dict[str, tuple[int, ...]] = {}
    for layer in linears:
        if stored[layer.weight][2:] != (1, 1):  # a convolution's stay as they are
            found[layer.weight] = matrix_shape(stored[layer.weight]) or stored[layer.weight]
        if layer.bias is not None:
            found[layer.bias] = (prod(stored[layer.bias]),)
    return found


@dataclass
class _Proto:
    """The fields of a TensorProto that matter here."""

    name: str = ""
    dims: list[int] = dataclasses.field(default_factory=list)
    data_type: int = 0
    data: Field | None = None
    external: dict[str, str] = dataclasses.field(default_factory=dict)


def _tensors(path: Path, folder: Path) -> Iterator[Tensor]:
    with reading(path, _WHOLE), path.open("rb") as file:
        protos = list(_protos(file, path))
    for proto in protos:
        dtype = _DTYPES.get(proto.data_type)
        if dtype is None:
            continue  # texts and packed small integers are never a head
        shape = tuple(proto.dims)
        size = prod(shape) * BITS[dtype] // 8
        if proto.external:
            file_path, offset = _external_place(path, folder, proto, size)
            yield Tensor(proto.name, dtype, shape, file_path, offset)
        elif proto.data is not None and proto.data.value == size:
            yield Tensor(proto.name, dtype, shape, path, proto.data.offset)


def _protos(file: BinaryIO, path: Path) -> Iterator[_Proto]:
    """The graph's initializers, and the tensors of its Constant nodes under the values' names."""
    for field in fields(file, 0, path.stat().st_size):
        if field.number != _MODEL_GRAPH or not field.is_bytes:
            continue
        for inner in fields(file, field.offset, field.value):
            if inner.number == _GRAPH_INITIALIZER and inner.is_bytes:
                yield _read_proto(file, inner)
            elif inner.number == _GRAPH_NODE and inner.is_bytes:
                yield from _constants(file, inner)


def _constants(file: BinaryIO, node: Field) -> Iterator[_Proto]:
    """The tensor of a Constant node; nothing of any other."""
    parts = list(fields(file, node.offset, node.value))
    texts = {part.number: content(file, part) for part in parts if part.number == _NODE_TYPE}
    if texts.get(_NODE_TYPE) != b"Constant":
        return
    names = [content(file, part).decode() for part in parts if part.number == _NODE_OUTPUT]
    for attribute in parts:
        if attribute.number != _NODE_ATTRIBUTE:
            continue
        for part in fields(file, attribute.offset, attribute.value):
            if part.number == _ATTRIBUTE_TENSOR and part.is_bytes:
                proto = _read_proto(file, part)
                proto.name = names[0]
                yield proto


def _read_proto(file: BinaryIO, message: Field) -> _Proto:
    proto = _Proto()
    for field in fields(file, message.offset, message.value):
        if field.number == _DIMS:
            proto.dims += packed(content(file, field)) if field.is_bytes else [field.value]
            if len(proto.dims) > MOST_AXES or max(proto.dims, default=0) > MOST_ELEMENTS:
                raise ValueError(f"a tensor of {len(proto.dims)} axes")
        elif field.number == _DATA_TYPE:
            proto.data_type = field.value
        elif field.number == _NAME:
            proto.name = content(file, field).decode()
        elif field.number in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and field.is_bytes:
            proto.data = field
        elif field.number == _EXTERNAL:
            entry = fields(file, field.offset, field.value)
            texts = {item.number: content(file, item).decode() for item in entry}
            proto.external[texts.get(1, "")] = texts.get(2, "")
    return proto


def _external_place(path: Path, folder: Path, proto: _Proto, size: int) -> tuple[Path, int]:
    location = proto.external.get("location", "")
    where = folder / location
    with reading(path, _WHOLE):
        inside, there = real(where).is_relative_to(real(folder)), where.is_file()
        offset = int(proto.external.get("offset", "0"))
        length = int(proto.external.get("length", str(size)))
    if not location or Path(location).is_absolute() or not inside:
        _refuse(path, "it names external data outside its folder", location, "a file beside it")
    if not there:
        _refuse(path, "its external data is missing", f"no {location}", "the file beside it")
    if length != size or offset < 0 or offset + size > where.stat().st_size:
        _refuse(
            path,
            f"the external data of {proto.name} does not fit",
            f"{length:,} bytes at {offset:,} of {location} ({where.stat().st_size:,} bytes)",
            f"{size:,} bytes inside of it",
        )
    return where, offset


def _relocate(file: BinaryIO, tensor: Field, names: Mapping[str, str], found: list[Splice]) -> int:
    growth = 0
    for entry in fields(file, tensor.offset, tensor.value):
        if entry.number != _EXTERNAL:
            continue
        texts = {item.number: item for item in fields(file, entry.offset, entry.value)}
        if set(texts) != {1, 2} or content(file, texts[1]) != b"location":
            continue
        new = names.get(content(file, texts[2]).decode())
        if new is not None:
            found.append(Splice(texts[2].offset, texts[2].value, new.encode()))
            longer = len(new.encode()) - texts[2].value
            growth += _lengthen(entry, _lengthen(texts[2], longer, found), found)
    return _lengthen(tensor, growth, found) if growth else 0


def _lengthen(field: Field, growth: int, found: list[Splice]) -> int:
    """Correct a length; return by how much the field grows with it."""
    old, new = field.offset - field.length_at, encoded(field.value + growth)
    found.append(Splice(field.length_at, old, new))
    return growth + len(new) - old


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise FileFormatError(
        f"{path} cannot be used: {what}",
        got=got,
        expected=expected,
        todo="copy all files of the model again, or export it again",
    )
