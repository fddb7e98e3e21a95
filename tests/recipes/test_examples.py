"""Every recipe of examples/recipes on stand-in data, against its expected table."""

from __future__ import annotations

import importlib
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.recipes.expected import read_expected
from alphafix.recipes.recipe import load_recipe
from alphafix.rivals import RIVALS

runner = CliRunner()

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
NAMES = sorted(p.stem for p in FOLDER.glob("*-*.yaml") if p.stem != "stand-in-oltr")

# What shortens the work: fewer trials and draws, and no processes that load images.
ALPHANET = ("--set", "train.seeds=2", "--set", "train.epochs=6")
EVALUATE = ("--set", "evaluate.bootstraps=100")
EXTRACT = ("--set", "extract.workers=0", "--set", "extract.batch_size=256")
OLTR = ("--set", "train-oltr.1.workers=0", "--set", "train-oltr.2.workers=0")

COMPARED = ("--set", "compare.seeds=2", "--set", "compare.k=2", "--set", "compare.bootstraps=100")


def _sets(*changes: str) -> tuple[str, ...]:
    return tuple(word for change in changes for word in ("--set", change))


# What the few images of the stand-ins ask for.
OTHERS = {
    "imagenet-lt-powers": _sets(
        *(
            f"make-lt.{i}.{part}"
            for i in (1, 2, 3)
            for part in ("val=1", "test=2", "max_images=8", "min_images=2")
        )
    ),
    "imagenet-lt-unknown": _sets(*(f"train-oltr.{i}.open_classes=[1,2]" for i in (1, 2))),
    "cifar-100-oltr": _sets(
        *(f"train-oltr.{i}.odin_{p}" for i in (1, 2) for p in ("temperature=[1,1000]", "step=[0]"))
    ),
}

# Rows and columns that a recipe must have measured.
MEASURED = {
    "cifar-100-oltr": (("plain", "plain + ODIN", "oltr", "oltr + ODIN"), "detection error"),
    "imagenet-lt-ce": (("base model", "ncm-cl2-cosine", "tau-norm"), "overall"),
    "places-lt-ce": (("base model", "ncm-cl2-cosine", "tau-norm"), "overall"),
    "inaturalist-2018-crt": (("base model", "rho 0.05", "rho 0.01"), "overall"),
    "imagenet-lt-powers": (("power-6-plain", "power-6-oltr", "power-1-oltr"), "F"),
    "imagenet-lt-unknown": (("plain, 1 unknown classes", "oltr, 2 unknown classes"), "F"),
    "sun-lt-oltr": (
        ("plain", "oltr", "cost-sensitive", "model-regression", "metamodelnet"),
        "overall",
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with stand-in data, in whose place the recipes run."""
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        stand_in: Any = importlib.import_module("stand_in")
        patch.setattr(sys, "argv", ["stand_in.py", str(folder / "data")])
        stand_in.main()
        patch.setenv("ALPHAFIX_DATA", str(folder / "data"))
        patch.setenv("ALPHAFIX_BACKBONES", "python:stand_in:")
        patch.setenv("ALPHAFIX_OLTR", str(FOLDER / "stand-in-oltr.yaml"))
        for name in ("model-regression", "metamodelnet"):
            patch.setitem(RIVALS[name].arguments, "steps", 20)
        yield folder
    sys.modules.pop("stand_in", None)


def invoke(name: str, root: Path, *arguments: str) -> dict[str, Any]:
    words = ["run", str(FOLDER / f"{name}.yaml"), "--root", str(root), "--json", *arguments]
    result = runner.invoke(app, words)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def shortened(name: str) -> tuple[str, ...]:
    steps = load_recipe(FOLDER / f"{name}.yaml").steps
    stages = [step.stage for step in steps]
    trained = range(1, stages.count("train-oltr") + 1)
    return (
        *(ALPHANET if "train" in stages else ()),
        *(EVALUATE if "evaluate" in stages else ()),
        *(EXTRACT if "extract" in stages else ()),
        *(word for i in trained for word in ("--set", f"train-oltr.{i}.workers=0")),
        *(COMPARED if "compare" in stages else ()),
        *OTHERS.get(name, ()),
    )


def test_recipes__are_those_of_both_papers() -> None:
    assert NAMES == [
        "cifar-100-lt-ltr",
        "cifar-100-lt-ride",
        "cifar-100-oltr",
        "imagenet-lt-ce",
        "imagenet-lt-crt",
        "imagenet-lt-lws",
        "imagenet-lt-oltr",
        "imagenet-lt-powers",
        "imagenet-lt-ride",
        "imagenet-lt-unknown",
        "inaturalist-2018-crt",
        "ms1m-lt-oltr",
        "places-lt-ce",
        "places-lt-crt",
        "places-lt-lws",
        "places-lt-oltr",
        "sun-lt-oltr",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recipe__runs_and_measures_what_is_expected(name: str, root: Path) -> None:
    found = invoke(name, root, "--expected", *shortened(name))
    rows = {row["name"]: row for row in found["expected"]["rows"]}
    usual = ("plain", "oltr") if name.endswith("oltr") else ("base model", "rho 0.5")
    wanted, column = MEASURED.get(name, (usual, "overall"))
    for row in wanted:
        measured = rows[row]["measured"]
        assert 0 <= measured[column]["value"] <= 100
        if row.startswith("rho"):
            assert measured["few"]["spread"] is not None
    figure = {"imagenet-lt-powers": "long-tailedness", "imagenet-lt-unknown": "unknown-classes"}
    if name in figure:
        drawn = {Path(path).name for path in found["figures"]}
        assert drawn == {f"{figure[name]}.{kind}" for kind in ("svg", "png", "csv")}
        svg = next((root / "runs").glob(f"*/figures/{figure[name]}.svg"))
        assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    if name in ("imagenet-lt-oltr", "places-lt-oltr"):
        assert rows["oltr"]["measured"]["F"]["value"] >= 0
    again = invoke(name, root, "--dry-run", *shortened(name))
    assert {step["state"] for step in again["stages"]} == {"up to date"}


@pytest.mark.parametrize("name", NAMES)
def test_recipe__names_a_table_that_says_where_it_is_from(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    assert recipe.expected is not None
    table = read_expected(recipe.expected)
    assert any(word in table.source for word in ("Table", "section"))
    assert len(table.rows) >= 3
    if "AlphaNet" in table.source and "Table A" in table.source:
        assert len(table.rows) == 14
    assert len((FOLDER / f"{name}.yaml").read_text().splitlines()) <= 35


@pytest.mark.slow
def test_expected__is_printed_beside_what_was_measured(root: Path) -> None:
    name = "cifar-100-lt-ltr"
    words = ["run", str(FOLDER / f"{name}.yaml"), "--root", str(root), "--expected"]
    result = runner.invoke(app, [*words, *shortened(name)])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("AlphaNet (Chang et al.), Table A7")
    at = next(i for i, line in enumerate(lines) if line.startswith("rho 0.5 "))
    assert lines[at].split()[2:] == ["expected", "43.2±1.17", "32.1±4.73", "58.7±3.55", "44.7±2.64"]
    assert lines[at + 1].split()[0] == "measured"
    overall = float(lines[at + 1].split()[-1].partition("±")[0])
    assert lines[at + 2].split()[-1] == f"{overall - 44.7:+.1f}"
    # Tables A6 and A7 in one command: every rho.
    assert "not measured" not in result.stdout
    assert sum(line.split()[:1] == ["measured"] for line in lines) == 14


@pytest.mark.slow
def test_expected__shows_the_forms_that_the_figures_may_come_from(root: Path) -> None:
    """With validation the code as it is meant and as it runs differ; each is that preset's."""
    few = ("--set", "train.rho=0.5", "--set", "train.seeds=2", *EXTRACT)
    found = {}
    for preset in ("paper", "official", "released"):
        chosen = ("--set", f"train.preset={preset}", "--overwrite")
        rows = invoke("places-lt-crt", root, "--expected", *few, *chosen)["expected"]["rows"]
        found[preset] = next(row for row in rows if row["name"] == "rho 0.5")
    paper = found["paper"]
    assert paper["official"] != paper["released"]
    for form in ("official", "released"):
        assert paper[form] == found[form]["measured"]
        assert form not in found[form]


def test_expected__without_a_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stages: [neighbors]\n")
    result = runner.invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--expected"])
    assert result.exit_code == 1
    assert "names no expected figures" in result.stderr


@pytest.mark.slow
def test_import__of_a_changed_file_is_noticed(root: Path) -> None:
    name, file = "cifar-100-lt-ride", root / "data/RIDE/CIFAR100_LT/train.npz"
    invoke(name, root, *shortened(name))
    arrays = dict(np.load(file))
    np.savez(file, features=2 * arrays["features"], labels=arrays["labels"])
    plan = invoke(name, root, "--dry-run", *shortened(name))["stages"]
    assert plan[0]["state"] == "made otherwise"
    again = invoke(name, root, "--overwrite", *shortened(name))["stages"]
    assert again[0]["result"]["accuracy"]["train"] > 50


@pytest.mark.slow
def test_training__on_changed_images_is_noticed(root: Path) -> None:
    name, file = "imagenet-lt-oltr", root / "data/ImageNet_LT/ImageNet_LT_train.txt"
    invoke(name, root, *OLTR)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[1:]) + "\n")
    words = ["run", str(FOLDER / f"{name}.yaml"), "--root", str(root), *OLTR]
    result = runner.invoke(app, words)
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    before = (root / "models/imagenet-lt-plain/model.safetensors").read_bytes()
    invoke(name, root, "--overwrite", *OLTR)
    assert (root / "models/imagenet-lt-plain/model.safetensors").read_bytes() != before


def test_readme__shows_a_recipe_that_is_valid(tmp_path: Path) -> None:
    blocks = (FOLDER / "README.md").read_text(encoding="utf-8").split("```yaml\n")
    (tmp_path / "recipe.yaml").write_text(blocks[1].split("```")[0])
    result = runner.invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr
    steps = json.loads(result.stdout)["stages"]
    assert [step["stage"] for step in steps] == [
        "extract",
        "neighbors",
        "train",
        "evaluate",
        "patch",
    ]
