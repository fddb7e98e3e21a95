"""The linear layers of an ONNX graph, and what else uses their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alphafix.checkpoints.formats.format import Linear

# Operations with weights of their own: a layer with one of them behind it is no head.
HEAVY = frozenset(("Gemm", "MatMul", "Conv", "ConvTranspose", "Attention", "LSTM", "GRU"))


def linear_layers(graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Linear]:
    """Yield the layers Gemm, MatMul (+ Add) and 1 x 1 Conv with stored weights.

    Args:
        graph: A GraphProto.
        shapes: Shapes of the stored tensors by name.
    """
    origin = _origins(graph, shapes)
    readers = _readers(graph)
    behind = _weighted_behind(graph, readers)
    for node in graph.node:
        weight, flipped = origin.get(node.input[1], ("", False)) if len(node.input) > 1 else ("", 0)
        if not weight:
            continue
        last = not behind[id(node)]
        features, result = node.input[0], node.output[0]
        options = {attribute.name: attribute for attribute in node.attribute}
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in shapes else None
        if node.op_type == "Gemm" and _is_plain(options):
            turned = bool(options["transB"].i) if "transB" in options else False
            yield Linear(weight, bias, turned == flipped, last, features, result)
        elif node.op_type == "MatMul" and len(shapes[weight]) == 2:
            bias, result = _added(node, readers, shapes, shapes[weight][0 if flipped else 1])
            yield Linear(weight, bias, not flipped, last, features, result)
        elif node.op_type == "Conv" and shapes[weight][2:] == (1, 1):
            yield Linear(weight, bias, False, last, features, result)


def uses(graph: Any, names: Iterable[str]) -> dict[str, list[str]]:
    """The layers (or look-ups) that each stored tensor goes into, by its name.

    Light operations on the way, as those that normalise a weight's rows, are passed through:
    two of them that end in one layer are one use.
    """
    readers = _readers(graph)
    return {name: [_label(node) for node in _stops(name, readers)] for name in names}


def _stops(name: str, readers: Mapping[str, list[Any]]) -> list[Any]:
    found: dict[int, Any] = {}
    waiting, seen = [name], {name}
    while waiting:
        for node in readers.get(waiting.pop(), ()):
            if node.op_type in HEAVY or node.op_type == "Gather":
                found[id(node)] = node
                continue
            waiting += [value for value in node.output if value not in seen]
            seen.update(node.output)
    return list(found.values())


def _label(node: Any) -> str:
    return f"{node.op_type} {node.name}".strip()


def _is_plain(options: Mapping[str, Any]) -> bool:
    alpha = options["alpha"].f if "alpha" in options else 1.0
    beta = options["beta"].f if "beta" in options else 1.0
    return alpha == 1.0 and beta == 1.0 and not ("transA" in options and options["transA"].i)


def _origins(graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, bool]]:
    """Value -> (stored tensor that it is, whether transposed)."""
    found = {name: (name, False) for name in shapes}
    for node in graph.node:
        source = found.get(node.input[0]) if len(node.input) == 1 else None
        if source is None:
            continue
        if node.op_type == "Identity":
            found[node.output[0]] = source
        elif node.op_type == "Transpose" and len(shapes[source[0]]) == 2:
            found[node.output[0]] = (source[0], not source[1])
    return found


def _readers(graph: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _weighted_behind(graph: Any, readers: Mapping[str, list[Any]]) -> dict[int, bool]:
    """Whether an operation with weights stands between a node and the outputs, by id."""
    behind: dict[int, bool] = {}
    for node in reversed(graph.node):  # ONNX lists nodes in topological order
        after = [reader for name in node.output for reader in readers.get(name, ())]
        behind[id(node)] = any(n.op_type in HEAVY or behind.get(id(n), False) for n in after)
    return behind


def _added(
    node: Any, readers: Mapping[str, list[Any]], shapes: Mapping[str, tuple[int, ...]], size: int
) -> tuple[str | None, str]:
    """Name of the stored bias that an Add right behind ``node`` adds, and of the layer's result."""
    for after in readers.get(node.output[0], ()):
        if after.op_type == "Add":
            for name in after.input:
                if shapes.get(name) == (size,):
                    return str(name), str(after.output[0])
    return None, str(node.output[0])
