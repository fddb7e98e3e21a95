from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import InputError, MissingStageError, StaleInputError
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import BASE, Comparison, Method
from alphafix.metrics.verdict import CommonDraws, verdict
from alphafix.report.tables import marks
from alphafix.run.directory import COMPARISON, CORRECTION, HEAD, Run
from alphafix.values.correction import Correction
from tests.common import make_problem, write_run
from tests.stages import compare, evaluate, find_neighbors

PROBLEM = make_problem(num_classes=16, spread=1.5)
SMALL: dict[str, Any] = {
    "methods": ("few-bias", "ncm-l2", "lws"),
    "rho": (0.5,),
    "seeds": 2,
    "bootstraps": 100,
    "k": (2, 3, 99),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = write_run(tmp_path_factory.mktemp("compare") / "run", PROBLEM)
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    return run


@pytest.fixture(scope="module")
def found(run: Run) -> Comparison:
    return compare(CompareOptions(run=run.folder, **SMALL))


def test_compare__all_methods_in_one_table(found: Comparison) -> None:
    assert [(row.method.name, row.method.family) for row in found.rows] == [
        (BASE, "base"),
        ("alphanet rho 0.5", "alphanet"),
        ("alphanet random rho 0.5", "random"),
        ("alphanet rho 0.5 + few-bias", "calibrated"),
        ("few-bias", "simple"),
        ("ncm-l2", "simple"),
        ("lws", "trained"),
        ("alphanet on few-bias", "on top"),
        ("alphanet on lws", "on top"),
    ]
    assert [row.method.name for row in found.rows if not row.method.linear] == ["ncm-l2"]


def test_compare__figures_are_those_of_evaluate(
    run: Run, found: Comparison, tmp_path: Path
) -> None:
    """The few-bias row, fitted again and evaluated as a correction."""
    from alphafix.features.store import FeatureStore
    from alphafix.rivals import fit_method
    from alphafix.rivals.data import FitData

    train, val = (FeatureStore.open(run.features(split)) for split in ("train", "val"))
    correction = fit_method("few-bias", FitData(train, val, PROBLEM.head, PROBLEM.classes))
    other = write_run(tmp_path / "run", PROBLEM)
    correction.save(other.path(CORRECTION))
    evaluation = evaluate(EvaluateOptions(run=other.folder, bootstraps=100))
    row = found.row("few-bias")
    for split in ("few", "medium", "many", "overall"):
        top1 = evaluation.tier(split).figures["top1"]
        figure, change = row.figures[split], row.changes[split]
        assert top1.corrected is not None
        assert top1.change is not None
        assert figure is not None
        assert change is not None
        assert figure.value == pytest.approx(top1.corrected.value)
        assert change.value == pytest.approx(top1.change.value)
        assert change.low == pytest.approx(top1.change.low)
    assert Correction.load(other.path(CORRECTION)).method == "few-bias"


def test_compare__seeds_and_intervals_are_recorded(found: Comparison) -> None:
    seeds = found.row("alphanet rho 0.5").method.seeds
    assert seeds is not None
    assert seeds["few"] is not None
    assert seeds["few"].std is not None
    assert seeds["few"].std >= 0
    assert found.to_dict()["settings"] == {"bootstrap_draws": 100, "seed": 0}
    assert list(found.by_k) == ["2", "3"]
    few = found.by_k["2"]["few"]
    assert few is not None
    assert len(few.values) == 2
    for row in found.rows[1:]:
        overall = row.figures["overall"]
        assert overall is not None
        assert overall.low < overall.value < overall.high


def test_compare__round_trip(run: Run, found: Comparison) -> None:
    loaded = Comparison.load(run.path(COMPARISON))
    assert loaded.to_dict() == found.to_dict()
    assert run.provenance(COMPARISON)["options"]["rho"] == [0.5]
    run.require_fresh(COMPARISON)


def test_compare__pictures_as_svg_and_png(run: Run, found: Comparison) -> None:
    root = ElementTree.parse(run.path("compare.svg")).getroot()
    text = " ".join(part for part in root.itertext())
    assert "few-split top-1 in %" in text
    with Image.open(run.path("compare.png")) as image:
        assert image.size[0] > 700


def test_command__prints_table_legend_and_verdict(run: Run) -> None:
    arguments = ["compare", "--run", str(run.folder), "--methods", "few-bias,tau-norm"]
    arguments += ["--rho", "0.5", "--seeds", "1", "--bootstraps", "100", "--no-on-top", "-k", "3"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "options.seeds 2, now 1" in refused.stderr
    result = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "(few < 20, medium 20..100, many > 100 training samples)" in lines[1]
    assert any(line.startswith("tau-norm ") for line in lines)
    assert any(line.startswith("Validation would choose ") for line in lines)
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert len(json.loads(as_json.stdout)["rows"]) == 6


def test_compare__unknown_method(run: Run) -> None:
    with pytest.raises(InputError, match="there is no method magic"):
        compare(CompareOptions(run=run.folder, methods=("magic",)))


def test_compare__needs_validation_features_and_neighbours(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", PROBLEM, splits=("train", "test"))
    with pytest.raises(MissingStageError, match=r"extract\(split='val'\)"):
        compare(CompareOptions(run=run.folder))
    run = write_run(tmp_path / "b", PROBLEM)
    with pytest.raises(MissingStageError, match="find_neighbors"):
        compare(CompareOptions(run=run.folder))


def test_compare__stale_neighbours(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PROBLEM)
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    make_problem(num_classes=16, seed=3).head.save(run.path(HEAD), overwrite=True)
    with pytest.raises(StaleInputError, match="find_neighbors"):
        compare(CompareOptions(run=run.folder))


def hand_made(right: dict[str, tuple[str, list[int]]], val_few: dict[str, float]) -> CommonDraws:
    """Methods with given right samples: the first four samples are few-split, then four base."""
    problem = make_problem(num_classes=4)
    classes = replace(problem.classes, counts=np.array([5, 30, 200, 200]))
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    methods = [
        Method(name, family, True, {}, {"few": val_few.get(name, 0.0), "overall": 50.0})
        for name, (family, _) in right.items()
    ]
    correct = np.array([row for _, row in right.values()], dtype=bool).T
    return CommonDraws(classes, labels, methods, correct, Resampling(200, seed=0))


def test_verdict__says_that_a_simpler_method_wins_and_how_surely() -> None:
    common = hand_made(
        {
            BASE: ("base", [0, 0, 0, 0, 1, 1, 1, 1]),
            "alphanet rho 1": ("alphanet", [1, 0, 0, 0, 1, 1, 1, 0]),
            "few-bias": ("simple", [1, 1, 1, 1, 1, 1, 1, 0]),
        },
        {"alphanet rho 1": 25.0, "few-bias": 100.0},
    )
    rows = common.rows(2.0)
    alphanet, simple = rows[1], rows[2]
    assert alphanet.dominated_by == ("few-bias",)
    # Four draws of the three samples that differ: never worse, and equal only by (1/4)^4.
    assert alphanet.surely_dominated_by == ("few-bias",)
    assert marks(alphanet) == "<< few-bias"
    assert simple.dominated_by == ()
    sentences = verdict(common, rows)
    assert sentences[0] == "Validation would choose few-bias: few +100.0, overall +37.5."
    assert sentences[1].startswith("A simpler method wins: few-bias (few +100.0")


def test_verdict__says_when_alphanet_wins_or_it_is_a_trade() -> None:
    base = ("base", [0, 0, 0, 0, 1, 1, 1, 1])
    wins = hand_made(
        {
            BASE: base,
            "alphanet rho 1": ("alphanet", [1, 1, 1, 0, 1, 1, 1, 1]),
            "few-bias": ("simple", [1, 0, 0, 0, 1, 1, 1, 1]),
        },
        {},
    )
    assert verdict(wins, wins.rows(2.0))[1].startswith("AlphaNet wins: alphanet rho 1")
    trade = hand_made(
        {
            BASE: base,
            "alphanet rho 1": ("alphanet", [1, 1, 0, 0, 0, 0, 1, 0]),
            "few-bias": ("simple", [1, 0, 0, 0, 1, 1, 1, 1]),
        },
        {},
    )
    assert verdict(trade, trade.rows(2.0))[1].startswith("A trade: few-bias")


def test_rows__mark_what_breaks_the_limit_on_validation() -> None:
    common = hand_made(
        {BASE: ("base", [0] * 4 + [1] * 4), "few-bias": ("simple", [1] * 4 + [0] * 4)}, {}
    )
    poor = replace(common.methods[1], val={"few": 90.0, "overall": 47.0})
    common.methods = (common.methods[0], poor)
    rows = common.rows(2.0)
    assert [row.within for row in rows] == [True, False]
    assert marks(rows[1]) == "!"
    assert verdict(common, rows)[0] == ("No method keeps the allowed overall drop on validation.")
