"""`import alphafix`: instant, complete, and typed for its users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import alphafix
from alphafix.api import keywords
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.inspect.options import InspectOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.options import StageOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.train.options import TrainOptions

# Fields that are arguments of the function, not keywords, or are for the command line alone.
NOT_KEYWORDS = {
    "extract": {"backbone", "data", "shard_index", "shard_count"},
    "find_neighbors": {"features", "head", "class_names"},
    "train": {"plan"},
    "patch": {"file", "correction"},
    "evaluate": {
        "all",
        "junit",
        "markdown",
        "confident",
        "min_few_gain",
        "max_overall_drop",
        "max_base_drop",
        "max_class_drop",
    },
    "compare": {"all"},
    "inspect": {"file"},
}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_import__loads_nothing_heavy() -> None:
    code = (
        "import sys, alphafix\n"
        "dir(alphafix), alphafix.AlphafixError\n"
        "heavy = {'torch', 'faiss', 'numpy', 'sklearn', 'pydantic', 'matplotlib', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run(code).strip() == "[]"


def test_values__load_neither_torch_nor_faiss() -> None:
    code = (
        "import sys, alphafix\n"
        "alphafix.ClassTable, alphafix.Head, alphafix.Correction, alphafix.Evaluation\n"
        "alphafix.FeatureStore, alphafix.Neighbours, alphafix.train, alphafix.evaluate\n"
        "print(sorted({'torch', 'faiss', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    assert run(code).strip() == "[]"


@pytest.mark.slow
def test_all__every_name_is_there_and_listed() -> None:
    assert set(alphafix.__all__) <= set(dir(alphafix))
    for name in alphafix.__all__:
        found = getattr(alphafix, name)
        assert found.__name__ == name
        assert found.__doc__
    assert run("from alphafix import *; print(train.__name__, Head.__name__)") == "train Head\n"


def test_unknown_name__is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tain'"):
        alphafix.tain  # type: ignore[attr-defined]  # noqa: B018


def test_keywords__are_made_from_the_options() -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[2] / ".ci/write_keywords.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "typed", "model"),
    [
        ("extract", keywords.ExtractKeywords, ExtractOptions),
        ("find_neighbors", keywords.NeighborsKeywords, NeighborsOptions),
        ("train", keywords.TrainKeywords, TrainOptions),
        ("patch", keywords.PatchKeywords, PatchOptions),
        ("evaluate", keywords.EvaluateKeywords, EvaluateOptions),
        ("compare", keywords.CompareKeywords, CompareOptions),
        ("inspect", keywords.InspectKeywords, InspectOptions),
    ],
)
def test_keywords__are_the_options(name: str, typed: type, model: type[StageOptions]) -> None:
    told = set(typed.__annotations__)
    for base in typed.__mro__:
        told |= set(getattr(base, "__annotations__", {}))
    told |= set(keywords.StageKeywords.__annotations__)
    assert told == set(model.model_fields) - NOT_KEYWORDS[name], "see alphafix/api/keywords.py"


USER = """
import numpy as np

import alphafix
from alphafix import AlphaNetClassifier, ClassTable, Correction, Evaluation, Head, Neighbours

features = np.zeros((10, 4), dtype=np.float32)
labels = np.zeros(10, dtype=np.int64)
head = Head.of(np.zeros((3, 4)), np.zeros(3))
classes = ClassTable.of(labels, ["a", "b", "c"])
near: Neighbours = alphafix.find_neighbors((features, labels), head, classes, k=2)
found: Correction = alphafix.train((features, labels), head, classes, near, rho=0.5, seeds=3)
result: Evaluation = alphafix.evaluate((features, labels), head, classes, found, bootstraps=100)
text: str = result.tier("few").name
alphafix.figure(result).savefig("figure.png")
alphafix.patch("model.safetensors", found, dry_run=True).target.exists()
classifier = AlphaNetClassifier(rho=[0.1, 0.5], holdout=0.2).fit(features, labels)
"""

WRONG = """
import alphafix

alphafix.train(rho="much")
alphafix.train(no_such_option=1)
text: str = alphafix.evaluate(run="here")
alphafix.no_such_function()
"""

# Nothing above is of their types, and mypy would read them for four times as long as all the rest.
CONFIG = """
[mypy]
[mypy-torch.*,torchvision.*,timm.*,transformers.*,datasets.*,onnx.*]
follow_imports = skip
"""


@pytest.mark.slow
def test_types__a_users_code_is_checked(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "user.py", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [
        line.partition(": error: ")[0] for line in done.stdout.splitlines() if "error:" in line
    ]
    assert wrong == ["wrong.py:4", "wrong.py:5", "wrong.py:6", "wrong.py:7"], done.stdout
