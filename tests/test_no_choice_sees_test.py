"""No choice anywhere sees test data: other test labels change no setting, threshold or sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.run.directory import CORRECTION, Run
from tests.common import Problem, make_problem, write_run
from tests.oltr.drawings import write_folders, write_recipe
from tests.stages import find_neighbors, train, train_oltr

LIMITS = {"max_overall_drop": 3.0, "confidence": 0.5}
WAYS: dict[str, dict[str, Any]] = {
    "auto": {"method": "auto", "methods": ("alphanet", "lda", "lws"), **LIMITS},
    "lda": {"method": "lda", **LIMITS},
    "rhos": {"rho": (0.1, 2.0), "select": "constrained", "calibrate": True, **LIMITS},
    "held out": {"rho": (0.1, 2.0), "holdout": 0.25},
    "refitted": {"method": "auto", "holdout": 0.25, "holdout_head": "ridge", **LIMITS},
}


def trained(folder: Path, problem: Problem, way: str) -> tuple[bytes, dict[str, Any]]:
    """The correction's file, and all that is said of the choice."""
    run = write_run(folder, problem)
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    small = {"seeds": 1, "epochs": 6, "hidden": (8, 8)}
    found = train(TrainOptions.model_validate({"run": run.folder, **small, **WAYS[way]}))
    return Run(folder).path(CORRECTION).read_bytes(), found.chosen.to_dict()


@pytest.mark.parametrize("way", WAYS)
def test_train__chooses_the_same_whatever_test_is(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(num_classes=12, spread=1.5)
    labels = np.random.default_rng(0).permutation(problem.labels["test"])
    other = replace(problem, labels={**problem.labels, "test": labels})
    found = []
    for name, one in (("own", problem), ("shuffled", other)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)  # the same words in what is recorded
        found.append(trained(Path("run"), one, way))
    assert found[0][1] == found[1][1]
    assert found[0][0] == found[1][0]
    assert found[0][1]["val"] is not None


@pytest.mark.slow
def test_openset__threshold_and_odin_are_chosen_the_same_whatever_test_is(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data")
    recipe = write_recipe(tmp_path / "recipe.yaml")
    unknown = tmp_path / "unknown"
    shutil.copytree(data / "open", unknown)
    for number, path in enumerate(sorted(unknown.rglob("*.png"))):
        if number % 2:
            path.unlink()
    options: dict[str, Any] = {
        "method": "plain",
        "recipe": str(recipe),
        "open_threshold": "auto",
        "odin": True,
        "odin_temperature": (1.0, 1000.0),
        "odin_step": (0.002,),
        "open_val": str(unknown),
        "workers": 0,
        "device": "cpu",
    }
    found = []
    for name in ("own", "shuffled"):
        if name == "shuffled":  # every class's test images are those of the next
            kinds = sorted(path for path in (data / "test").iterdir() if path.is_dir())
            for kind in kinds:
                kind.rename(kind.with_name(f"{kind.name}-moved"))
            for kind, place in zip(kinds, [*kinds[1:], kinds[0]], strict=True):
                kind.with_name(f"{kind.name}-moved").rename(place)
        output = tmp_path / name
        train_oltr(
            TrainOltrOptions.model_validate({"data": str(data), "output": output, **options})
        )
        found.append(json.loads((output / "evaluation.json").read_text()))
    own, shuffled = found
    assert own["closed"]["val"] == shuffled["closed"]["val"]
    assert own["closed"]["test"] != shuffled["closed"]["test"]
    assert own["threshold"] == shuffled["threshold"]
    assert own["odin"] == shuffled["odin"]
