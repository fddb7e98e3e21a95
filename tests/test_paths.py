"""What is no path, or one of elsewhere, is one error before anything is made."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import alphafix
from alphafix.commands.app import app
from alphafix.commands.features.options import MergeOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands work in; nothing is made there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(line: str) -> str:
    """The error of a command that fails and makes nothing."""
    before = sorted(Path().rglob("*"))
    done = CliRunner().invoke(app, shlex.split(line))
    assert (done.exit_code, done.stdout) == (1, ""), (done.stderr, done.exception)
    assert sorted(Path().rglob("*")) == before
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("neighbors --run ''", "--run"),
        ("extract --backbone timm:test_resnet --data '' --run new", "--data"),
        ("extract --backbone timm:test_resnet --data d --weights ' ' --run new", "--weights"),
        ("patch model.pth -o ''", "--output"),
        ("inspect ''", "FILE"),
        ("features merge a ''", "DIR"),
        ("neighbors --features '' --head h.npz", "--features"),
        ("run ''", "RECIPE"),
        ("run recipe.yaml --run ''", "--run"),
    ],
)
def test_path__that_is_empty_is_refused(line: str, option: str) -> None:
    """As a shell makes it of a variable that is not set; it was the folder at hand."""
    assert f"error: {option} is empty" in said(line)


@pytest.mark.parametrize(
    ("line", "option", "begun"),
    [
        ("neighbors --features train= --head h.npz", "--features", "train="),
        ("neighbors --features 'val= ' --head h.npz", "--features", "val="),
        ("import features x --features test=", "--features", "test="),
        ("extract --backbone onnx: --data d", "--backbone", "onnx:"),
        ("extract --backbone timm:resnet18 --data hf:", "--data", "hf:"),
        ("fix m.pth -o o.pth --backbone oltr: --data d", "--backbone", "oltr:"),
    ],
)
def test_path__that_is_empty_behind_what_it_is_of_is_refused(
    line: str, option: str, begun: str
) -> None:
    told = said(line)
    assert f"behind {begun} is empty: {option} got: nothing there" in told
    assert f"give {option} {begun}" in told


@pytest.mark.parametrize("name", ["train.rho", "train.run", "extract.class_map"])
def test_setting__without_a_value_is_refused(name: str) -> None:
    Path("recipe.yaml").write_text("stages: [{extract: {data: d, backbone: timm:x}}, {train: {}}]")
    told = said(f"run recipe.yaml --set {name}=")
    assert f"--set {name}= has no value" in told
    assert f"({name}=null for none)" in told


@pytest.mark.parametrize("point", ["t=", "few=x", "=3", "t"])
def test_point__that_is_none_says_what_one_is(point: str) -> None:
    done = CliRunner().invoke(app, ["train", "--at", point])
    assert done.exit_code == 2
    assert f"a point is few=PERCENT, overall=POINTS or t=NUMBER, not '{point}'" in done.stderr


def test_path__that_is_empty_is_refused_in_python() -> None:
    with pytest.raises(InputError, match="run= is empty"):
        alphafix.find_neighbors(run="")


@pytest.mark.parametrize("value", ["", "~", "''", "' '", "5", "[a]", "true"])
@pytest.mark.parametrize("how", ["recipe", "setting", "set"])
def test_recipe__whose_run_is_no_path_is_refused(how: str, value: str) -> None:
    """A folder None or 5 was made."""
    top = {"recipe": f"run: {value}\n", "set": f"set: {{run: {value}}}\n"}.get(how, "")
    Path("r.yaml").write_text(f"{top}stages: [neighbors]\n", encoding="utf-8")
    more = f" --set {shlex.quote(f'run={value}')}" if how == "setting" else ""
    expected = "run is no path got: " if value or how != "setting" else "--set run= has no value"
    assert expected in said(f"run r.yaml{more}")


def test_recipe__names_the_stage_whose_path_is_wrong() -> None:
    Path("r.yaml").write_text("stages:\n  - neighbors: {run: ''}\n", encoding="utf-8")
    assert "stage: r.yaml, line 2: neighbors" in said("run r.yaml")


def test_options__of_several_paths_take_one() -> None:
    """As a recipe has it: `features: x.npz`."""
    assert NeighborsOptions.model_validate({"features": "x.npz"}).features == ("x.npz",)
    assert MergeOptions.model_validate({"parts": "a"}).parts == (Path("a"),)


@pytest.mark.parametrize("address", ["https://host/x", "s3://data/x"])
@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("run {}", "RECIPE"),
        ("run recipe.yaml --root {}", "--root"),
        ("neighbors --features train={} --head h.npz --run new", "--features"),
        ("evaluate --groups {}", "--groups"),
        ("make-lt --data {} --output new", "--data"),
        ("make-lt --data d --counts {} --output new", "--counts"),
        ("patch model.pth --apply {}", "--apply"),
        ("extract --backbone oltr:{} --data d --run new", "--backbone"),
        ("import alphanet-official {} --run new", "SOURCE"),
        ("train-oltr --data d --recipe {} --output new", "--recipe"),
    ],
)
def test_address__of_what_is_read_here_only_is_refused(
    line: str, option: str, address: str
) -> None:
    text = said(line.format(address))
    assert f"error: what {option} names is read on this machine only got: {address} " in text


def test_address__with_space_before_it_is_none() -> None:
    assert "give s3://data/run" in said("neighbors --run ' s3://data/run'")
    assert "give s3://data/run" in said("features merge ' s3://data/run'")


def test_run__that_is_a_file_or_lies_in_one_says_so() -> None:
    Path("file").write_text("x")
    for run in ("file", "file/x/y"):
        assert "got: file, which is no folder" in said(f"neighbors --run {run}")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("extract --backbone timm:test_resnet --data data --run data/train", "--run data/train"),
        ("extract --backbone timm:test_resnet --data data --run data/val/new", "--run data/val/"),
        ("train-oltr --recipe cifar100-lt --data data --output data/train/new", "--output data/"),
        ("make-lt --data data --output data/train/lists", "--output data/train/lists"),
        ("fix m.pth --backbone timm:test_resnet --data data -o data/val/m.pth", "--output data/"),
    ],
)
def test_output__among_the_images_is_refused(line: str, option: str) -> None:
    """It would be a class of the next extraction, its pictures images."""
    for split in ("train", "val"):
        Path("data", split, "ant").mkdir(parents=True)
    Path("m.pth").write_bytes(b"x")
    assert re.search(f"error: {option}\\S* lies among the images of (train|val)", said(line))


def test_output__in_the_folder_at_hand_is_refused_if_that_is_among_the_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("data/train/ant").mkdir(parents=True)
    Path("link").symlink_to("data")
    monkeypatch.chdir("data/train")
    text = said("extract --backbone timm:test_resnet --data ../../link")
    assert "error: --run alphafix-run lies among the images of train" in text
    text = said("extract --backbone timm:none --data ../../link --run ../new")
    assert "lies among" not in text
