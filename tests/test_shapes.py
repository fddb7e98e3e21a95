"""Shapes are checked in all tests: of every public function with arrays, and for real."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from alphafix.alphanet.correction import LookedUp
from alphafix.features.features import Features
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.oltr.models.heads import Output
from alphafix.oltr.models.memory import nearest_distance
from alphafix.values.classes import ClassTable
from tests.architecture import PACKAGE, REPOSITORY
from tests.shapes import ROOMS, SHAPES

_ARRAY = re.compile(r"(Tensor|\w*Array(64)?)( \| (None|Tensor|\w*Array(64)?))*")


def with_arrays(module: str) -> Iterator[str]:
    """Public functions and methods of a module that take or give an array, from its source."""
    path = (REPOSITORY / module.replace(".", "/")).with_suffix(".py")
    yield from _within(ast.parse(path.read_text(encoding="utf-8")), "")


def _within(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            decorators = [ast.unparse(one) for one in node.decorator_list]
            fields = [one.annotation for one in node.body if isinstance(one, ast.AnnAssign)]
            if any("dataclass" in one for one in decorators) and any(map(_is_array, fields)):
                yield f"{node.name}.__init__"
            yield from _within(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name == "__init__"
        ):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if any(map(_is_array, [*(one.annotation for one in arguments), node.returns])):
                yield f"{prefix}{node.name}"


def _is_array(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(_ARRAY.fullmatch(ast.unparse(annotation)))


@pytest.mark.parametrize("room", ROOMS)
def test_shapes__are_said_of_every_public_function_with_arrays(room: str) -> None:
    folder = PACKAGE / room.partition(".")[2].replace(".", "/")
    modules = [f"{room}.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"]
    found = {f"{module}.{name}" for module in modules for name in with_arrays(module)}
    said = {f"{module}.{name}" for module in SHAPES for name in SHAPES[module] if room in module}
    assert found - said == set(), "tests/shapes.py lacks them"
    assert said - found == set(), "these take and give no arrays, or are not there"


@pytest.mark.parametrize("module", SHAPES)
def test_shapes__name_parameters_that_are_there(module: str) -> None:
    for place, hints in SHAPES[module].items():
        found: Any = importlib.import_module(module)
        for part in place.split("."):
            found = inspect.getattr_static(found, part)
        function = getattr(found, "__func__", None) or getattr(found, "fget", None)
        function = function or getattr(found, "func", None) or found
        assert set(hints) <= {*inspect.signature(function).parameters, "return"}, place


def test_wrong_shape__of_an_argument_is_caught() -> None:
    rows, positions = torch.zeros(2, 5, 7), torch.zeros(1, 4, 3, dtype=torch.long)
    alphas, biases = torch.zeros(2, 4, 3), torch.zeros(2, 3)
    correction = LookedUp(positions.expand(2, -1, -1), rows)
    assert correction.scores(alphas, biases).shape == (2, 5, 3)
    with pytest.raises(TypeCheckError, match="biases"):
        correction.scores(alphas, torch.zeros(1, 3))  # would be broadcast
    with pytest.raises(TypeCheckError, match="positions"):
        LookedUp(positions.int(), rows)
    with pytest.raises(TypeCheckError, match="centroids"):
        nearest_distance(torch.zeros(4, 8), torch.zeros(8))


def test_wrong_shape__of_a_field_is_caught() -> None:
    logits, features = torch.zeros(4, 3), torch.zeros(4, 8)
    assert len(Output(logits, features, features).logits) == 4
    with pytest.raises(TypeCheckError, match="features"):
        Output(logits, features, features[:3])


def test_wrong_shape__between_arguments_is_caught() -> None:
    classes = ClassTable(("a", "b"), np.array([30, 3]))
    labels = np.array([0, 1, 1])
    assert tier_accuracy(np.array([True, True, False]), labels, classes)["few"] == 50
    with pytest.raises(TypeCheckError, match="labels"):
        tier_accuracy(np.array([True, True]), labels, classes)


def test_wrong_shape__of_a_result_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features.of(np.eye(3), [0, 1, 1])
    assert features.gather(np.array([0, 2])).shape == (2, 3)
    object.__setattr__(features, "features", np.eye(3, 2, dtype=np.float32))
    features.__dict__["width"] = 3
    with pytest.raises(TypeCheckError, match="return"):
        features.gather(np.array([0, 2]))
