"""Which tensors of a file could be the head: by shape, name, bias and place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.sections import without_wrapper
from alphafix.checkpoints.formats.tensors import REAL, Tensor
from alphafix.values.head import HeadSource

# Last parts of the names that timm, torchvision, transformers and research code give to the
# layer before the logits.
HEAD_WORDS = frozenset(
    {
        *("fc", "head", "classifier", "linear", "last_linear", "score", "logits", "output"),
        *("final", "cls_head", "head_dist", "lm_head", "prediction", "predictions"),
        *("fcs", "heads", "classifiers", "linears", "experts"),
    }
)

# Learned row scales: classifier-balancing (LWS) says "scales", MiSLAS "learned_norm".
SCALE_WORDS = frozenset(("scales", "scale", "learned_norm", "logit_scales"))

# Side outputs that a model does not use when it predicts.
SIDE_WORDS = ("aux",)


@dataclass(frozen=True)
class HeadCandidate:
    """A layer that could be the head.

    Attributes:
        source: Which tensors it is made of (without the file's hash).
        num_classes: C.
        width: D (all experts together).
        dtype: Element type of its weight.
        likeness: How much its name looks like a head's: the depth of the name, negated, or
            None for a name that does not.
        place: Index of its last weight among the file's tensors.
    """

    source: HeadSource
    num_classes: int
    width: int
    dtype: str
    likeness: int | None
    place: int

    @property
    def name(self) -> str:
        """The name by which a user says that it is the head."""
        return self.source.weights[0] if len(self.source.weights) == 1 else self.group

    @property
    def group(self) -> str:
        """What the weights' names begin with."""
        parts = _group(self.source.weights[0])
        return parts[0] if parts else self.source.weights[0]


def list_candidates(
    checkpoint: Checkpoint, *, num_classes: int | None = None
) -> list[HeadCandidate]:
    """Return all layers that could be a linear head, the likeliest first.

    Args:
        checkpoint: The file.
        num_classes: C, if known; layers with other numbers of outputs are left out, and
            weights stored as D x C are recognised.
    """
    layers = list(_layers(checkpoint, num_classes))
    found = [*_experts(layers), *layers]
    grouped = {
        name for item in found if item.source.kind == "experts" for name in item.source.weights
    }
    kept = [c for c in found if len(c.source.weights) > 1 or c.source.weights[0] not in grouped]
    if num_classes is not None:
        kept = [candidate for candidate in kept if candidate.num_classes == num_classes]
    return sorted(_drop_hidden(kept), key=_rank)


def _rank(candidate: HeadCandidate) -> tuple[bool, int, bool, int]:
    likeness = candidate.likeness
    return (
        likeness is None,
        -(likeness or 0),
        not candidate.source.biases,
        -candidate.place,
    )


def _layers(checkpoint: Checkpoint, num_classes: int | None) -> Iterable[HeadCandidate]:
    bare = without_wrapper([_in_section(checkpoint, t.name) for t in checkpoint.tensors])
    for place, tensor in enumerate(checkpoint.tensors):
        if not is_matrix(tensor):
            continue
        layer = next((one for one in checkpoint.linears or () if one.weight == tensor.name), None)
        if layer is not None:
            bias, transposed = layer.bias, layer.transposed
        elif checkpoint.linears is None:
            transposed = _seems_transposed(tensor, num_classes)
            classes = tensor.shape[1] if transposed else tensor.shape[0]
            bias = find_bias(checkpoint, tensor, place, classes)
        else:
            continue  # in a graph, but no linear layer
        classes, width = tensor.shape[:2] if not transposed else tensor.shape[1::-1]
        scales = _find_scales(checkpoint, tensor, classes)
        source = HeadSource(
            file=checkpoint.path.name,
            sha256="",
            kind="linear" if scales is None else "lws",
            weights=(tensor.name,),
            biases=() if bias is None else (bias,),
            scales=scales,
            transposed=transposed,
            factor=1.0 if layer is None else layer.factor,
            bias_factor=1.0 if layer is None else layer.bias_factor,
        )
        name = bare[_in_section(checkpoint, tensor.name)]
        likeness = 0 if layer is not None and layer.last else _likeness(name)
        yield HeadCandidate(source, classes, width, tensor.dtype, likeness, place)


def _in_section(checkpoint: Checkpoint, name: str) -> str:
    return name.removeprefix(checkpoint.section + ".") if checkpoint.section else name


def is_matrix(tensor: Tensor) -> bool:
    """Whether a tensor has the shape and type of a linear layer's weight (or a 1 x 1 conv's)."""
    shape = tensor.shape
    flat = len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
    return flat and min(shape) > 0 and shape[0] > 1 and tensor.dtype in REAL


def _seems_transposed(tensor: Tensor, num_classes: int | None) -> bool:
    # Only a known number of classes can tell; a square weight is taken as it is usual in torch.
    return len(tensor.shape) == 2 and tensor.shape[0] != num_classes == tensor.shape[1]


def find_bias(checkpoint: Checkpoint, weight: Tensor, place: int, classes: int) -> str | None:
    """Name of the bias of the layer with ``weight``: its sibling with C elements."""
    fitting = [t for t in checkpoint.tensors if t.shape == (classes,) and t.dtype in REAL]
    parent, dot, last = weight.name.rpartition(".")  # a layer saved by itself has no parent
    for tensor in fitting:
        if tensor.name in (f"{parent}{dot}{last.replace('weight', 'bias')}", f"{parent}{dot}bias"):
            return tensor.name
    if parent == "constants":
        # Frozen TorchScript drops the names, but keeps a layer's weight and bias together.
        for tensor in fitting:
            if checkpoint.tensors.index(tensor) == place + 1:
                return tensor.name
    return None


def _find_scales(checkpoint: Checkpoint, weight: Tensor, classes: int) -> str | None:
    parent = weight.name.rpartition(".")[0]
    for tensor in checkpoint.tensors:
        home, _, last = tensor.name.rpartition(".")
        near = parent == home or parent.rpartition(".")[0] == home
        fits = tensor.shape in ((classes,), (classes, 1), (1, classes)) and tensor.dtype in REAL
        if last in SCALE_WORDS and near and fits:
            return tensor.name
    return None


def _likeness(name: str) -> int | None:
    parts = name.split(".")[:-1]
    if any(part.lower().startswith(SIDE_WORDS) for part in parts):
        return None
    named = [part for part in parts if not part.isdigit()]
    last = named[-1].lower().strip("_") if named else ""  # EfficientNet says _fc
    if len(named) == 1:
        last = last.rstrip("0123456789")  # tutorials say fc2, after fc1
    if last not in HEAD_WORDS:
        return None
    return -len(named)


def _group(name: str) -> tuple[str, int, str] | None:
    """Split ``linears.2.weight`` into what comes before the number, it, and what comes after."""
    match = re.fullmatch(r"(.*)\.(\d+)\.([^.]*)", name)
    return (match[1], int(match[2]), match[3]) if match else None


def _experts(layers: list[HeadCandidate]) -> Iterable[HeadCandidate]:
    groups: dict[tuple[object, ...], list[HeadCandidate]] = {}
    for layer in layers:
        parts = _group(layer.source.weights[0])
        if parts and layer.likeness is not None:
            key = (parts[0], parts[2], layer.num_classes, layer.width, bool(layer.source.biases))
            groups.setdefault(key, []).append(layer)
    for group in groups.values():
        if len(group) > 1:
            yield _joined(sorted(group, key=lambda layer: _group(layer.source.weights[0]) or ("",)))


def _joined(group: list[HeadCandidate]) -> HeadCandidate:
    first = group[0]
    source = replace(
        first.source,
        kind="experts",
        weights=tuple(layer.source.weights[0] for layer in group),
        biases=tuple(name for layer in group for name in layer.source.biases),
        scales=None,
    )
    width, place = first.width * len(group), max(layer.place for layer in group)
    return replace(first, source=source, width=width, place=place)


def _drop_hidden(candidates: list[HeadCandidate]) -> list[HeadCandidate]:
    """In ``classifier.0``, ``.3``, ``.6`` only the last layer gives logits."""
    last: dict[str, int] = {}
    for candidate in candidates:
        parts = _group(candidate.source.weights[0])
        if parts and candidate.source.kind != "experts":
            last[parts[0]] = max(last.get(parts[0], -1), parts[1])
    return [
        candidate
        for candidate in candidates
        if candidate.source.kind == "experts"
        or (parts := _group(candidate.source.weights[0])) is None
        or candidate.likeness is None
        or parts[1] == last[parts[0]]
    ]
