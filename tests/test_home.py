"""A home folder that no shell has written out, ``~/x``, is one wherever a path is given."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import alphafix
from alphafix import remote
from alphafix.commands import COMMANDS
from alphafix.commands.app import app
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.features.options import MergeOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.options import _WITH_PATHS, extra_of
from alphafix.errors import InputError
from tests.common import make_problem, write_run

ME = pwd.getpwuid(os.getuid())

# What stands for values that are no paths, although some have words of paths in them.
NO_PATHS = {
    *("CLASS", "DELTA", "NAME", "NAMES", "NAME=VALUE", "NAME[,NAME]", "NAME[,NAME...]"),
    *("NUMBER[,NUMBER...]", "NUMBER|auto", "N[,N]", "N[,N...]", "X[,X]", "X[,X...]", "T[,T...]"),
    *("ORG/NAME", "OURS=THEIRS", "POINT", "R,G,B", "SECONDS", "SIZE", "jpg,png"),
    "STAGE.OPTION=VALUE",  # which the stage's options take in their turn
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder; the commands work in another."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_at_home__is_what_a_shell_makes_of_it(home: Path) -> None:
    for text, expected in {
        "~": str(home),
        "~/x": f"{home}/x",
        f"~{ME.pw_name}/x": f"{ME.pw_dir}/x",
        "train=~/x.npz": f"train={home}/x.npz",
        "wds:~/x-{000..001}.tar": f"wds:{home}/x-{{000..001}}.tar",
        "./~/x": "./~/x",
        "/a/~/x": "/a/~/x",
        "a~": "a~",
        "~x.txt": "~x.txt",  # a file that is called so
        "s3://data/~x": "s3://data/~x",
        "https://host/x?of=~/y": "https://host/x?of=~/y",
    }.items():
        assert remote.at_home(text) == expected
    with pytest.raises(InputError, match=r"(?s)home folder that is not known.*~nobody-here"):
        remote.at_home("~nobody-here/x")
    Path("~nobody-here").mkdir()
    assert remote.at_home("~nobody-here/x") == "~nobody-here/x"


def fields() -> Iterator[tuple[Any, str, str | None]]:
    for command in COMMANDS.values():
        for name, field in command.options.model_fields.items():
            yield command.options, name, extra_of(field)["metavar"]


def test_options__with_paths_are_all_known() -> None:
    for model, name, word in fields():
        known = name in model._naming(_WITH_PATHS)
        assert known or word in {None, *NO_PATHS}, f"{model.__name__}.{name}: {word}"


def test_options__of_every_kind_know_home_folders(home: Path) -> None:
    given: dict[str, Any] = {"run": "~/run", "weights": "~/w.pth", "root": "~"}
    given |= {"backbone": "oltr:~/model", "data": "list:~/{split}.txt"}
    extraction = ExtractOptions(**given, prefix_map=("/old=~/new",))
    assert extraction.run == home / "run"
    assert extraction.backbone == f"oltr:{home}/model"
    assert extraction.data == f"list:{home}/{{split}}.txt"
    assert extraction.weights == home / "w.pth"
    assert extraction.root == home
    assert extraction.prefix_map == (f"/old={home}/new",)
    parts: Any = ["~/a", "b"]
    assert MergeOptions(parts=parts).parts == (home / "a", Path("b"))
    found = NeighborsOptions(features=("train=~/x.npz", "~/y.npz")).features
    assert found == (f"train={home}/x.npz", f"{home}/y.npz")


def problem(home: Path) -> None:
    write_run(home / "run", make_problem(num_classes=16, spread=1.5))


@pytest.mark.parametrize("how", ["flag", "variable", "recipe", "setting", "option", "stage"])
def test_command__works_in_the_home_folder(
    how: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem(home)
    top = "run: ~/run\n" if how == "recipe" else ""
    stage = "{k: 3, run: ~/run}" if how == "stage" else "{k: 3}"
    Path("r.yaml").write_text(f"{top}stages:\n  - neighbors: {stage}\n", encoding="utf-8")
    words = ["run", "r.yaml"]
    if how == "flag":
        words = ["neighbors", "-k", "3", "--run=~/run", "--csv", "~/n.csv"]
    words += {"setting": ["--set", "run=~/run"], "option": ["--run", "~/run"]}.get(how, [])
    if how == "variable":
        monkeypatch.setenv("ALPHAFIX_RUN", "~/run")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert (home / "run" / "neighbors.safetensors").is_file()
    made = home / "run" / ("neighbors.safetensors" if how == "flag" else "")
    if how != "variable":
        assert done.stdout.splitlines()[-1] == str(made)
    assert (home / "n.csv").is_file() == (how == "flag")
    assert [path.name for path in Path().iterdir()] == ["r.yaml"]


def test_python__works_in_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem(home)
    alphafix.find_neighbors(run="~/run", k=3)
    monkeypatch.setenv("ALPHAFIX_CACHE", "~/cache")
    assert remote.cache_folder() == home / "cache"
    assert list(Path().iterdir()) == []


def test_python__a_path_is_expanded_as_a_text_is(home: Path) -> None:
    problem(home)
    made = alphafix.find_neighbors(run=Path("~/run"), k=3, csv=Path("~/n.csv"))
    assert (home / "n.csv").is_file()
    store = alphafix.FeatureStore.open(Path("~/run/features/train"))
    assert store.folder == home / "run/features/train"
    head = alphafix.Head.load(Path("~/run/head.safetensors"))
    classes = alphafix.ClassTable.load(Path("~/run/classes.json"))
    found = alphafix.Neighbours.load(Path("~/run/neighbors.safetensors"))
    assert found.ids.tolist() == made.ids.tolist()
    for value, name in ((head, "h.safetensors"), (classes, "c.json"), (found, "n.safetensors")):
        value.save(Path("~", name))
        type(value).load(home / name)
    correction = alphafix.train(run=Path("~/run"), method="few-bias")
    correction.save(Path("~/c.safetensors"))
    alphafix.Correction.load(Path("~/c.safetensors"))
    evaluation = alphafix.evaluate(run=Path("~/run"), bootstraps=100)
    evaluation.save(Path("~/e.json"))
    alphafix.Evaluation.load(Path("~/e.json"))
    with pytest.raises(InputError, match=f"{home}/none"):
        alphafix.inspect(Path("~/none"))
    with pytest.raises(InputError, match=f"{home}/none"):
        alphafix.patch(Path("~/none"), run=Path("~/run"))
    assert list(Path().iterdir()) == []


def test_python__of_a_path_that_is_called_so_here(home: Path) -> None:
    """A `Path` has lost its ``./``."""
    assert remote.home_path(Path("./~/x")) == home / "x"
    Path("~").mkdir()
    assert remote.home_path(Path("./~/x")) == Path("~/x")
    assert remote.home_path("~/x") == home / "x"
    assert remote.home_path("./~/x") == Path("~/x")


def test_recipe__that_extends_one_of_the_home_folder(home: Path) -> None:
    problem(home)
    (home / "base.yaml").write_text("run: ~/run\nstages: [neighbors: {k: 3}]\n")
    Path("r.yaml").write_text("extends: ~/base.yaml\n")
    done = CliRunner().invoke(app, ["run", "r.yaml", "--dry-run", "--json"])
    assert done.exit_code == 0, done.stderr
    assert str(home / "run") in done.stdout
