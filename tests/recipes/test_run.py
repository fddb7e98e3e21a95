"""`alphafix run`: chains of real stages on a small problem."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from alphafix.commands.app import app
from tests.common import make_problem

runner = CliRunner()

RECIPE = """\
description: a small chain
run: results
stages:
  - neighbors:
      features: [features.npz]
      head: head.npz
      k: 3
  - train: {rho: 0.5, seeds: 2, epochs: 6}
  - evaluate:
      on: test
      bootstraps: 100
  - patch:
      file: model.safetensors
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a recipe, features, a head and a model file."""
    problem = make_problem()
    arrays: dict[str, Any] = {f"{n}_features": x for n, x in problem.features.items()}
    arrays |= {f"{name}_labels": array for name, array in problem.labels.items()}
    np.savez(tmp_path / "features.npz", **arrays)
    weight, bias = problem.head.weight, problem.head.bias_or_zeros
    np.savez(tmp_path / "head.npz", weight=weight, bias=bias)
    save_file({"fc.weight": weight, "fc.bias": bias}, tmp_path / "model.safetensors")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def run(work: Path, *arguments: str, code: int = 0) -> Result:
    result = runner.invoke(app, ["run", str(work / "recipe.yaml"), *arguments])
    assert result.exit_code == code, result.stderr
    return result


def states(work: Path, *arguments: str) -> dict[str, str]:
    steps = json.loads(run(work, "--dry-run", "--json", *arguments).stdout)["stages"]
    return {step["stage"]: step["state"] for step in steps}


def done(result: Result) -> list[str]:
    """Labels of the stages that ran."""
    return re.findall(r"^\[\d+/\d+\] (.*): \d+\.\d s$", result.stderr, re.MULTILINE)


def change(work: Path, old: str, new: str) -> None:
    text = (work / "recipe.yaml").read_text()
    assert old in text
    (work / "recipe.yaml").write_text(text.replace(old, new))


def test_run__does_all_stages_from_the_recipes_folder(work: Path) -> None:
    result = run(work, "--json")
    assert done(result) == ["neighbors", "train", "evaluate", "patch"]
    assert (work / "results" / "alphanet.safetensors").is_file()
    assert (work / "model.alphafix.safetensors").is_file()
    steps = {step["stage"]: step for step in json.loads(result.stdout)["stages"]}
    assert steps["train"]["result"]["chosen"]["seeds"] == [0, 1]
    assert steps["evaluate"]["result"]["splits"]["few"]["classes"] == 3
    assert not (work / "results" / "recipe" / "train.json").exists()


def test_run__tells_each_stage_in_one_line_when_it_is_done(work: Path) -> None:
    def told(result: Result) -> list[str]:
        lines = re.findall(r"^\[\d.*$", result.stderr, re.MULTILINE)
        return [re.sub(r"\d+\.\d s$", "TIME", line) for line in lines]

    (work / "none.txt").write_text("of no such class\tgroup\n")
    change(work, "bootstraps: 100", "bootstraps: 100\n      groups: none.txt")
    begun = told(run(work, code=1))
    assert begun == ["[1/4] neighbors: TIME", "[2/4] train: TIME", "[3/4] evaluate: failed"]
    change(work, "\n      groups: none.txt", "")
    assert told(run(work)) == [
        "[1/4] neighbors: up to date",
        "[2/4] train: up to date",
        "[3/4] evaluate: TIME",
        "[4/4] patch: TIME",
    ]


def test_run__prints_the_run_directory_and_nothing_else(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.parent)
    assert run(work).stdout == f"{work.name}/results\n"


def test_run__again_leaves_out_what_is_up_to_date(work: Path) -> None:
    run(work)
    before = (work / "results" / "report.json").stat().st_mtime_ns
    again = run(work)
    assert done(again) == []
    assert again.stderr.count("up to date") >= 4
    assert (work / "results" / "report.json").stat().st_mtime_ns == before


def test_run__does_a_deleted_result_again(work: Path) -> None:
    run(work)
    (work / "model.alphafix.safetensors").unlink()
    (work / "results" / "report.json").unlink()
    assert done(run(work, "--overwrite")) == ["evaluate", "patch"]
    assert (work / "model.alphafix.safetensors").is_file()


def test_run__refuses_to_replace_before_any_work(work: Path) -> None:
    run(work)
    (work / "results" / "report.json").unlink()
    result = run(work, "--set", "train.rho=1", code=1)
    assert "recipe.yaml, line 8: train was made with other options" in result.stderr
    assert "--overwrite" in result.stderr
    assert result.stdout == ""
    assert not (work / "results" / "report.json").exists()


def test_run__with_overwrite_makes_anew_what_changed_and_what_lies_behind(work: Path) -> None:
    run(work)
    kept = (work / "results" / "neighbors.safetensors").stat().st_mtime_ns
    before = (work / "model.alphafix.safetensors").read_bytes()
    again = run(work, "--set", "train.rho=1", "--overwrite")
    assert done(again) == ["train", "evaluate", "patch"]
    assert (work / "results" / "neighbors.safetensors").stat().st_mtime_ns == kept
    assert (work / "model.alphafix.safetensors").read_bytes() != before


def test_run__notices_changed_inputs(work: Path) -> None:
    run(work)
    weight, bias = make_problem().head.weight, make_problem().head.bias_or_zeros
    np.savez(work / "head.npz", weight=weight, bias=bias + 1)
    assert states(work)["neighbors"] == "made otherwise"


def test_dry_run__shows_the_plan_and_writes_nothing(work: Path) -> None:
    before = sorted(work.rglob("*"))
    result = run(work, "--dry-run", "--set", "train.seeds=3")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["neighbors", "train", "evaluate", "patch"]
    assert "to do" in lines[1]
    assert "seeds=3" in lines[1]
    assert sorted(work.rglob("*")) == before


def test_dry_run__tells_what_is_up_to_date_and_what_would_change(work: Path) -> None:
    assert set(states(work).values()) == {"to do"}
    run(work)
    assert set(states(work).values()) == {"up to date"}
    assert states(work, "--set", "evaluate.bootstraps=200") == {
        "neighbors": "up to date",
        "train": "up to date",
        "evaluate": "made otherwise",
        "patch": "up to date",
    }
    assert states(work, "--set", "train.seed=5") == {
        "neighbors": "up to date",
        "train": "made otherwise",
        "evaluate": "made otherwise",
        "patch": "made otherwise",
    }


def test_run__of_another_run_directory_and_root(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "recipe.yaml").write_text(RECIPE)
    arguments = ["--root", str(work), "--run", str(other / "own")]
    run(other, *arguments)
    assert (other / "own" / "alphanet.safetensors").is_file()
    assert not (work / "results").exists()


def test_run__without_a_directory_of_its_own_takes_the_environments(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHAFIX_RUN", str(work / "elsewhere"))
    assert "run=results" in run(work, "--dry-run").stdout
    change(work, "run: results\n", "")
    assert f"run={work / 'elsewhere'}" in run(work, "--dry-run").stdout


def test_gate__ends_the_run_with_3_and_later_stages_are_not_done(work: Path) -> None:
    change(work, "      bootstraps: 100", "      bootstraps: 100\n      min_few_gain: 101")
    result = run(work, code=3)
    assert "a gate is not met\n--set evaluate.min_few_gain=101: few-split gain" in result.stderr
    assert not (work / "model.alphafix.safetensors").exists()
    assert (work / "results" / "report.json").is_file()
    assert "--set evaluate.min_few_gain=101: " in run(work, code=3).stderr
    passed = run(work, "--set", "evaluate.min_few_gain=-100")
    assert "top-1 in %" in passed.stderr  # figures are shown whether or not they are good enough
    assert done(passed) == ["patch"]  # the evaluation is as it would be, and now good enough


def test_notes__of_a_stage_name_options_as_a_recipe_has_them(work: Path) -> None:
    told = run(work).stderr
    assert "\n--set evaluate.all=true: top-5" in told
    assert "--all" not in told


def test_stages__may_be_there_twice(work: Path) -> None:
    change(
        work,
        "  - evaluate:",
        "  - train: {rho: 0.5, metric: random, seeds: 2, epochs: 6, run: control}\n  - evaluate:",
    )
    plan = run(work, "--dry-run", "--set", "train.2.seeds=4").stdout
    assert "train.1 " in plan
    assert "metric=random" in plan.splitlines()[2]
    assert "seeds=4" in plan.splitlines()[2]


def test_extends__takes_another_recipes_stages_and_sets_options(work: Path) -> None:
    (work / "child.yaml").write_text(
        "extends: recipe.yaml\nrun: child\nset:\n  train.rho: [0.25, 1]\n  evaluate.on: val\n"
    )
    result = runner.invoke(app, ["run", str(work / "child.yaml"), "--dry-run", "--json"])
    steps = {s["stage"]: s["options"] for s in json.loads(result.stdout)["stages"]}
    assert steps["train"] == {"run": "child", "rho": [0.25, 1.0], "seeds": 2, "epochs": 6}
    assert steps["evaluate"]["on"] == "val"
    (work / "recipe.yaml").write_text("extends: recipe.yaml\n")
    assert "circle" in run(work, code=1).stderr


WRONG: Sequence[tuple[str, str, tuple[str, ...]]] = [
    ("rho: 0.5", "roh: 0.5", ("line 8", "train has no option roh", "did you mean rho?")),
    ("- train:", "- tarin:", ("line 8", "no stage tarin", "did you mean train?")),
    ("k: 3", "k: many", ("line 7", "neighbors.k is wrong", "'many'", "integer")),
    ("seeds: 2", "seeds: 0", ("line 8", "train.seeds is wrong", "greater than")),
    ("run: results", "runn: results", ("line 2", "no part runn", "did you mean run?")),
    (
        "file: model.safetensors",
        "model: model.safetensors",
        ("line 13", "patch has no option model", "expected: file (Model file"),
    ),
    ("file: model.safetensors", "delta: true", ("line 12", "patch lacks its option file")),
    ("on: test", "on: tests", ("line 10", "evaluate.on is wrong", "'test'")),
    ("epochs: 6", "select: constrained", ("line 8", "train.max_overall_drop go together")),
    ("  - patch:\n      file", "  - patch:\n    file", ("line 12", "one stage")),
]


@pytest.mark.parametrize(("old", "new", "words"), WRONG)
def test_errors__name_the_line_and_the_nearest_valid_name(
    work: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    change(work, old, new)
    before = sorted(work.rglob("*"))
    result = run(work, code=1)
    for word in words:
        assert word in result.stderr
    assert result.stdout == ""
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trian.rho=1", "did you mean train?"),
        ("train.rho", "STAGE.OPTION=VALUE"),
        ("train.roh=1", "--set train.roh=1: train has no option roh"),
        ("train.rho=-1", "--set train.rho=-1: train.rho is wrong"),
        ("nothing=1", "the recipe has no stage nothing"),
    ],
)
def test_set__names_the_flag_in_its_errors(work: Path, setting: str, message: str) -> None:
    assert message in run(work, "--set", setting, code=1).stderr


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("mean", "[0.5, 0.25, 0]", "0.5,0.25,0"),
        ("std", "0.5", "0.5"),
        ("split", "[train, val]", "train,val"),
        ("endings", "[jpg, .png]", "jpg,.png"),
    ],
)
def test_options__of_parts_with_commas_may_be_lists(
    work: Path, name: str, value: str, taken: str
) -> None:
    (work / "images.yaml").write_text(
        "stages:\n  - extract: {backbone: 'timm:resnet18', data: data, weights: w.safetensors}\n"
    )
    setting = ("--dry-run", "--json", "--set", f"extract.{name}={value}")
    told = runner.invoke(app, ["run", str(work / "images.yaml"), *setting])
    assert json.loads(told.stdout)["stages"][0]["options"][name] == taken


def test_set__takes_one_of_several_without_brackets(work: Path) -> None:
    change(work, "[features.npz]", "features.npz")
    assert states(work)["neighbors"] == "to do"
    told = run(work, "--dry-run", "--json", "--set", "neighbors.features=train=features.npz")
    options = json.loads(told.stdout)["stages"][0]["options"]
    assert options["features"] == ["train=features.npz"]


def test_set__takes_lists_dashes_and_null(work: Path) -> None:
    result = run(
        work,
        *("--dry-run", "--json", "--set", "train.rho=[0.1, 0.2]", "--set", "train.batch-size=8"),
        *("--set", "neighbors.k=4", "--set", "evaluate.groups=null", "--set", "run=other"),
    )
    steps = {s["stage"]: s["options"] for s in json.loads(result.stdout)["stages"]}
    assert steps["train"]["rho"] == [0.1, 0.2]
    assert steps["train"]["batch_size"] == 8
    assert steps["neighbors"]["k"] == 4
    assert "groups" not in steps["evaluate"]
    assert {options["run"] for options in steps.values()} == {"other"}


def test_run__refuses_several_processes(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "one process" in run(work, code=1).stderr


def test_run__says_why_a_state_is_not_known(work: Path) -> None:
    (work / "features.npz").unlink()
    plan = run(work, "--dry-run").stdout
    assert "features.npz is not there" in plan
    assert "features.npz is not there" in run(work, code=1).stderr


def test_run__says_where_a_path_that_is_not_there_is_from(
    work: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(work, "[features.npz]", '["${FEATURES_OF:-data}/features.npz"]')
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("FEATURES_OF", raising=False)
    said = run(work, code=1).stderr
    assert "error: data/features.npz is not there" in said
    starts = f"line 5; relative paths of a recipe start from {work} (--root names another folder)"
    assert starts in said
    beginning = "variable: FEATURES_OF, an environment variable in it, is "
    assert f"{beginning}not set (export FEATURES_OF=FOLDER)" in said
    # A variable is no path of the folder where it was set.
    monkeypatch.setenv("FEATURES_OF", "mine")
    (elsewhere / "mine").mkdir()
    (elsewhere / "mine" / "features.npz").touch()
    said = run(work, code=1).stderr
    assert "error: mine/features.npz is not there" in said
    assert starts in said
    assert f"{beginning}mine\n" in said
    monkeypatch.setenv("FEATURES_OF", str(elsewhere / "none"))
    said = run(work, code=1).stderr
    assert f"{beginning}{elsewhere / 'none'}\n" in said
    assert "relative paths" not in said
    # Of a file that is there and wrong, where it is from is plain.
    monkeypatch.setenv("FEATURES_OF", str(elsewhere / "mine"))
    said = run(work, code=1).stderr
    assert f"error: {elsewhere / 'mine' / 'features.npz'}" in said
    assert beginning not in said
    monkeypatch.setenv("FEATURES_OF", str(work))
    run(work)


@pytest.mark.parametrize(
    ("option", "value"), [("data", "list:lists/{split}.txt"), ("weights", "models/none.pth")]
)
def test_run__says_so_of_lists_and_models(work: Path, option: str, value: str) -> None:
    (work / "data" / "train" / "one").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(work / "data" / "train" / "one" / "black.png")
    options = {"backbone": "timm:test_resnet", "data": "data", option: value}
    words = ", ".join(f'{name}: "{own}"' for name, own in options.items())
    (work / "recipe.yaml").write_text(f"stages:\n  - extract: {{{words}}}\n")
    assert f"line 2; relative paths of a recipe start from {work} " in run(work, code=1).stderr


def test_run__says_what_takes_a_file_that_is_no_chain(work: Path) -> None:
    (work / "recipe.yaml").write_text(
        "base: imagenet-lt\nstage2: {feature-lr: 0.1}\nmany-above: 9\n"
    )
    said = run(work, code=1).stderr
    assert "recipe.yaml says how a base model is trained, and has no stages" in said
    assert f"alphafix train-oltr --data DATA --recipe {work / 'recipe.yaml'}" in said
    assert "`- train-oltr: {recipe: recipe.yaml, ...}`" in said
    (work / "recipe.yaml").write_text("source: a paper\ncolumns: [few]\nrows: {}\n")
    said = run(work, code=1).stderr
    assert "recipe.yaml is a table of expected figures, and has no stages" in said
    assert "run the recipe that names it (expected: recipe.yaml), with --expected" in said


def test_run__says_at_the_end_that_the_base_model_is_kept(work: Path) -> None:
    with np.load(work / "features.npz") as file, np.load(work / "head.npz") as head:
        arrays = dict(file)
        scores = arrays["val_features"] @ head["weight"].T + head["bias"]
    # Validation on which the base model is right everywhere: its labels are its answers.
    np.savez(work / "features.npz", **{**arrays, "val_labels": scores.argmax(axis=1)})
    for _ in range(2):  # up to date too
        result = run(work)
        *_, last, following = [line for line in result.stderr.splitlines() if line.strip()]
        assert last.startswith("train: the base model is kept, nothing is corrected: ")
        assert following.startswith("next: alphafix ")
    assert "train" in json.loads(run(work, "--json").stdout)["kept"]


def test_run__finishes_what_a_killed_training_left(work: Path) -> None:
    run(work)
    results = work / "results"
    metrics = (results / "metrics.jsonl").read_bytes()
    (results / "metrics.jsonl").unlink()
    (results / "unfinished-trials").mkdir()
    assert states(work)["train"] == "to finish"
    assert states(work)["patch"] == "up to date"
    assert "train" in done(run(work))
    assert (results / "metrics.jsonl").read_bytes() == metrics
    assert not (results / "unfinished-trials").exists()
    assert set(states(work).values()) == {"up to date"}
