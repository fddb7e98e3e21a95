"""The cells of the notebooks run, and their values show themselves."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from tests.docs.blocks import REPOSITORY
from tests.docs.commands import in_folder

NOTEBOOKS = sorted((REPOSITORY / "examples").rglob("*.ipynb"))


def value_of(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line if that is an expression."""
    lines = [line for line in cell.splitlines() if not line.startswith("%")]
    tree = ast.parse("\n".join(lines))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook__runs_and_shows_what_it_showed(path: Path, tmp_path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        with in_folder(tmp_path):
            value = value_of("".join(cell["source"]), names)
        for output in cell["outputs"]:
            assert output["output_type"] == "execute_result"  # no error, and nothing printed
            kinds = output["data"]
            if "text/html" in kinds:
                assert value._repr_html_().lstrip().startswith("<")
            elif "image/png" in kinds:
                assert isinstance(value, Figure)
            else:
                assert value is not None
    assert list(tmp_path.iterdir()) == []


def test_notebooks__are_there() -> None:
    assert [path.name for path in NOTEBOOKS] == ["digits.ipynb"]
