"""An ONNX graph read once: its inputs, which values are stored tensors, who uses what.

`alphafix extract` and `alphafix patch` both ask here, so that they see the same head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from alphafix.checkpoints.formats.format import Linear

# Operations with weights of their own: a layer with one of them behind it is no head.
HEAVY = frozenset(("Gemm", "MatMul", "Conv", "ConvTranspose", "Attention", "LSTM", "GRU"))

# Operations that give the elements of their first input, in the same order.
_SAME_ELEMENTS = frozenset(("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"))

# The same, and what else may stand between a layer and the logits: a dropout, a factor (which
# the proof of the head measures).
_TO_LOGITS = _SAME_ELEMENTS | {"Dropout", "Mul", "Div"}


@dataclass(frozen=True)
class Alias:
    """A value that is a stored tensor.

    Attributes:
        name: The stored tensor.
        turned: Whether its two axes are swapped.
    """

    name: str
    turned: bool = False


class Graph:
    """A graph with what has to be known of it to find, run and change its head.

    Args:
        graph: A GraphProto.
        shapes: Shapes of the stored tensors by name: initializers, and values of Constant nodes.

    Attributes:
        nodes: Its operations, in topological order as ONNX wants it.
        inputs: What is to be fed (older files list initializers among the inputs too).
        outputs: Names of its results.
    """

    def __init__(self, graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.nodes = list(graph.node)
        stored = {tensor.name for tensor in graph.initializer}
        self.inputs = [value for value in graph.input if value.name not in stored]
        self.outputs = [value.name for value in graph.output]
        self._shapes = shapes
        self._maker = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(_read_by(node)):
                self._readers.setdefault(name, []).append(node)
        self._constant = self._constants(stored)
        self._aliases = self._find_aliases()

    def _constants(self, stored: set[str]) -> set[str]:
        """The values that depend on no input."""
        found = stored | set(self._shapes)
        for node in self.nodes:
            if all(name in found for name in _read_by(node) if name):
                found.update(node.output)
        return found

    def _find_aliases(self) -> dict[str, Alias]:
        found = {name: Alias(name) for name in self._shapes}
        for node in self.nodes:
            source = found.get(node.input[0]) if node.input else None
            if source is None:
                continue
            if node.op_type == "Transpose" and len(self._shapes[source.name]) == 2:
                swaps = next((list(a.ints) for a in node.attribute if a.name == "perm"), [1, 0])
                found[node.output[0]] = Alias(source.name, source.turned ^ (swaps == [1, 0]))
            elif node.op_type in ("Identity", "Cast") or (
                # Another shape of what is turned is in another order than the stored tensor.
                node.op_type in _SAME_ELEMENTS and (not source.turned or self._is_vector(source))
            ):
                found[node.output[0]] = source
        return found

    def _is_vector(self, alias: Alias) -> bool:
        shape = self._shapes[alias.name]
        return max(shape, default=1) == prod(shape)

    def linears(self) -> Iterator[Linear]:
        """Yield the layers Gemm, MatMul (+ Add) and 1 x 1 Conv with stored weights."""
        behind = self._weighted_behind()
        for node in self.nodes:
            weight = self._aliases.get(node.input[1]) if len(node.input) > 1 else None
            if weight is None:
                continue
            layer = self._layer(node, weight, last=not behind[id(node)])
            if layer is not None:
                yield layer

    def _layer(self, node: Any, weight: Alias, *, last: bool) -> Linear | None:
        options = {attribute.name: attribute for attribute in node.attribute}
        stored = self._shapes[weight.name]
        shape, transposed = matrix_shape(stored), False
        features, result, bias = node.input[0], node.output[0], None
        alpha = beta = 1.0
        if shape is None:
            return None
        if node.op_type == "Conv":
            if stored[2:] != (1, 1) or ("group" in options and options["group"].i != 1):
                return None
            shape = (stored[0], stored[1])
        elif node.op_type == "Gemm" and not ("transA" in options and options["transA"].i):
            alpha = options["alpha"].f if "alpha" in options else 1.0
            beta = options["beta"].f if "beta" in options else 1.0
            transposed = bool("transB" in options and options["transB"].i) == weight.turned
        elif node.op_type == "MatMul":
            transposed = not weight.turned
        else:
            return None
        classes = shape[1 if transposed else 0]
        if node.op_type == "MatMul":
            bias, result = self._added(result, classes)
        elif len(node.input) > 2 and node.input[2] and beta:
            bias = self._vector(node.input[2], classes)
            if bias is None:
                return None  # adds something else than a bias a class
        if alpha == 0:
            return None
        return Linear(weight.name, bias, transposed, last, features, result, alpha, beta)

    def _vector(self, value: str, size: int) -> str | None:
        """The stored tensor that a value of ``size`` elements is, or None."""
        alias = self._aliases.get(value)
        if alias is None or not self._is_vector(alias):
            return None
        return alias.name if prod(self._shapes[alias.name]) == size else None

    def _added(self, value: str, size: int) -> tuple[str | None, str]:
        """The stored bias that an Add right behind a value adds, and the layer's result."""
        readers = self._readers.get(value, ())
        if len(readers) == 1 and readers[0].op_type == "Add" and value not in self.outputs:
            for name in readers[0].input:
                bias = self._vector(name, size)
                if bias is not None:
                    return bias, str(readers[0].output[0])
        return None, value

    def _weighted_behind(self) -> dict[int, bool]:
        """Whether an operation with weights stands between a node and the outputs, by id."""
        behind: dict[int, bool] = {}
        for node in reversed(self.nodes):
            after = [reader for name in node.output for reader in self._readers.get(name, ())]
            behind[id(node)] = any(n.op_type in HEAVY or behind.get(id(n), False) for n in after)
        return behind

    def users(self, name: str) -> list[str]:
        """The operations that a stored tensor goes into: several if it is shared.

        What depends on no image is passed through, such as a division of rows by their norms:
        two such operations that end in one layer are one use.
        """
        found: dict[int, Any] = {}
        waiting, seen = [name], {name}
        while waiting:
            for node in self._readers.get(waiting.pop(), ()):
                passes = all(value in self._constant for value in _read_by(node) if value)
                if not passes or node.op_type in HEAVY or node.op_type == "Gather":
                    found[id(node)] = node
                    continue
                waiting += [value for value in node.output if value not in seen]
                seen.update(node.output)
        return [f"{node.op_type} {node.name}".strip() for node in found.values()]

    def makes_logits(self, layer: Linear) -> bool:
        """Whether a layer's result is the only output, but for its shape, type and a factor."""
        if len(self.outputs) != 1:
            return False
        value = self.outputs[0]
        while value != layer.result:
            node = self._maker.get(value)
            if node is None or node.op_type not in _TO_LOGITS:
                return False
            moving = [name for name in node.input if name and name not in self._constant]
            if len(moving) != 1:
                return False
            value = moving[0]
        return True

    def made_by(self, value: str) -> str:
        """The type of the operation that makes a value."""
        return str(self._maker[value].op_type) if value in self._maker else "nothing"


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The two sizes of a matrix that may have axes of length 1 beside them, or None."""
    if len(shape) == 2:
        return (shape[0], shape[1])
    sizes = [size for size in shape if size != 1]
    return (sizes[0], sizes[1]) if len(sizes) == 2 else None


def _read_by(node: Any) -> Iterable[str]:
    """Names of the values that a node reads, those inside of its branches and loops too."""
    yield from node.input
    for attribute in node.attribute:
        for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for inner in body.node:
                yield from _read_by(inner)
