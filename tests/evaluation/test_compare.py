from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings
from alphafix.commands.app import app
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import InputError, MissingStageError, StaleInputError
from alphafix.features.features import Features
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import BASE, Comparison, Method
from alphafix.metrics.limits import Limits
from alphafix.metrics.verdict import CommonDraws, spoken_of, verdict
from alphafix.report.tables import frontier_table, marks, table_of
from alphafix.rivals.comparing import CompareSettings
from alphafix.rivals.comparing import compare as compare_values
from alphafix.rivals.correct import correct
from alphafix.run.directory import COMPARISON, CORRECTION, HEAD, Run
from alphafix.values.classes import ClassTable
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


@pytest.mark.slow
def test_compare__all_methods_in_one_table(found: Comparison) -> None:
    assert [(row.method.name, row.method.family) for row in found.rows] == [
        (BASE, "base"),
        ("alphanet rho 0.5", "alphanet"),
        ("alphanet-lda rho 0.5", "alphanet"),
        ("alphanet random rho 0.5", "random"),
        ("alphanet rho 0.5 + few-bias", "calibrated"),
        ("alphanet-lda rho 0.5 + few-bias", "calibrated"),
        ("few-bias", "simple"),
        ("ncm-l2", "simple"),
        ("lws", "trained"),
        ("alphanet on few-bias", "on top"),
        ("alphanet on lws", "on top"),
    ]
    assert [row.method.name for row in found.rows if not row.method.linear] == ["ncm-l2"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_compare__of_samples_without_few_classes(tmp_path: Path) -> None:
    kept = ~np.isin(PROBLEM.labels["test"], PROBLEM.classes.few)
    problem = replace(
        PROBLEM,
        features={**PROBLEM.features, "test": PROBLEM.features["test"][kept]},
        labels={**PROBLEM.labels, "test": PROBLEM.labels["test"][kept]},
    )
    run = write_run(tmp_path / "run", problem)
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    found = compare(CompareOptions(run=run.folder, **{**SMALL, "methods": ("few-bias",)}))
    assert found.curves == {"few-bias": {"few": [], "overall": []}}
    assert found.row(BASE).figures["few"] is None
    assert found.row(BASE).figures["overall"] is not None
    assert json.loads(run.path(COMPARISON).read_text())["samples"] == kept.sum()


@pytest.mark.slow
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


@pytest.mark.slow
def test_compare__round_trip(run: Run, found: Comparison) -> None:
    loaded = Comparison.load(run.path(COMPARISON))
    assert loaded.to_dict() == found.to_dict()
    assert run.provenance(COMPARISON)["options"]["rho"] == [0.5]
    run.require_fresh(COMPARISON)


@pytest.mark.slow
def test_compare__pictures_as_svg_and_png(run: Run, found: Comparison) -> None:
    root = ElementTree.parse(run.path("compare.svg")).getroot()
    text = " ".join(part for part in root.itertext())
    assert "few-split top-1 in %" in text
    with Image.open(run.path("compare.png")) as image:
        assert image.size[0] > 700


@pytest.mark.slow
@pytest.mark.usefixtures("found")  # an earlier comparison, to be refused
def test_command__prints_table_legend_and_verdict(run: Run) -> None:
    arguments = ["compare", "--run", str(run.folder), "--methods", "few-bias,tau-norm"]
    arguments += ["--rho", "0.5", "--seeds", "1", "--bootstraps", "100", "--no-on-top", "-k", "3"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "options.seeds 2, now 1" in refused.stderr
    result = CliRunner().invoke(app, [*arguments, "--overwrite", "--all"])
    assert result.exit_code == 0
    assert "compare: few-bias (1 of 6)\n" in result.stderr  # closed forms come first
    assert f"look at: {run.folder}/compare.png\n" in result.stderr
    lines = result.stdout.splitlines()
    assert "(few < 20, medium 20..100, many > 100 training samples)" in lines[0]
    assert any(line.startswith("tau-norm ") for line in lines)
    assert any("validation chooses" in line.lower() for line in lines)
    short = CliRunner().invoke(app, arguments).stdout
    assert len(short.splitlines()) < len(lines)
    table = short.split("top-1 in %")[1].split("\n\n")[0].splitlines()[1:]
    costs = [float(re.findall(r"[+-]\d+\.\d", line)[3]) for line in table]
    assert costs == sorted(costs, reverse=True)
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert len(json.loads(as_json.stdout)["rows"]) == 8


@pytest.mark.slow
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


LIMITS = Limits(2.0)


def common_classes() -> ClassTable:
    """Four classes, of which the first is few-split."""
    return replace(make_problem(num_classes=4).classes, counts=np.array([5, 30, 200, 200]))


def hand_made(right: dict[str, tuple[str, list[int]]]) -> CommonDraws:
    """Methods with given right samples: the first four samples are few-split, the rest base."""
    classes = common_classes()
    size = len(right[BASE][1])
    labels = np.array([0, 0, 0, 0, 1, 1, *[2] * (size - 6)])
    methods = [
        Method(name, family, True, {}, {"few": 0.0, "overall": 50.0})
        for name, (family, _) in right.items()
    ]
    correct = np.array([row for _, row in right.values()], dtype=bool).T
    return CommonDraws(classes, labels, methods, correct, Resampling(200, seed=0))


def said(common: CommonDraws, **roles: str) -> tuple[str, ...]:
    return verdict(common, common.rows(), roles, LIMITS)


def test_verdict__says_that_a_simpler_method_wins_and_how_surely() -> None:
    common = hand_made(
        {
            BASE: ("base", [0, 0, 0, 0, 1, 1, 1, 1]),
            "alphanet rho 1": ("alphanet", [1, 0, 0, 0, 1, 1, 1, 0]),
            "few-bias": ("simple", [1, 1, 1, 1, 1, 1, 1, 0]),
        }
    )
    rows = common.rows()
    alphanet, simple = rows[1], rows[2]
    assert alphanet.dominated_by == ("few-bias",)
    # Four draws of the three samples that differ: never worse, and equal only by (1/4)^4.
    assert alphanet.surely_dominated_by == ("few-bias",)
    assert marks(alphanet) == "<< few-bias"
    assert simple.dominated_by == ()
    sentences = said(common, best="few-bias", simple="few-bias", alphanet="alphanet rho 1")
    # Three samples that all speak for one of two equally good methods are no rarity.
    assert sentences[0] == (
        "No difference could be shown with this many test samples (8) between alphanet rho 1 (few "
        "+25.0, overall +0.0) and few-bias (few +100.0, overall +37.5): few -75.0 [-197.3, +47.3], "
        "other +0.0 [-81.2, +81.2], overall -37.5 [-98.6, +23.6]."
    )
    assert sentences[1] == (
        "With at most 2 points lost overall with 95% confidence on fresh samples, validation "
        "chooses few-bias (few +100.0, overall +37.5): within the limit here."
    )


def flipped(few: tuple[int, int], base: tuple[int, int]) -> str:
    """The first sentence where so many samples are right with AlphaNet, or the other, alone."""
    classes = ClassTable(tuple("abc"), np.array([5, 50, 200]))
    labels = np.repeat(np.arange(3), [40, 40, 40])
    ours, other = np.zeros((2, 120), dtype=bool)
    for start, (gained, lost) in ((0, few), (40, base)):
        ours[start : start + gained] = other[start + gained : start + gained + lost] = True
    families = ("base", "alphanet", "simple")
    methods = [Method(name, name, True, {}, {}) for name in families]
    correct = np.stack([np.zeros(120, bool), ours, other], axis=1)
    common = CommonDraws(classes, labels, methods, correct, Resampling(20, seed=0))
    return said(common, alphanet="alphanet", simple="simple")[0]


@pytest.mark.parametrize(
    ("few", "base", "expected"),
    [
        ((12, 0), (20, 2), "AlphaNet: alphanet (few +30.0, overall +26.7) wins against simple "),
        ((0, 12), (2, 20), "A simpler method: simple (few +30.0, overall +26.7) wins against "),
        ((12, 0), (6, 2), " wins against simple (few +0.0, overall +1.7): better for rare "),
        ((12, 0), (5, 10), "is better for rare classes (99%) and probably not worse overall (8"),
        (
            (12, 0),
            (16, 23),
            "alphanet (few +30.0, overall +23.3) is better for rare classes (99%) than simple (few "
            "+0.0, overall +19.2); whether it costs overall accuracy could not be shown with this "
            "many test samples (120): few +30.0 [+7",
        ),
        (
            (12, 0),
            (0, 12),
            "is better for rare classes (99%) and worse for the other classes (99%) than simple "
            "(few +0.0, overall +10.0); whether it costs overall accuracy could not be shown",
        ),
        ((12, 0), (0, 40), "It is a trade: alphanet (few +30.0, overall +10.0) is better for rare"),
        ((0, 6), (32, 0), "It is probably a trade: simple (few +15.0, overall +5.0) is probably "),
        ((7, 1), (4, 4), "is probably better for rare classes (8"),
        ((3, 3), (20, 2), "is better overall (9"),
        ((3, 3), (20, 2), "which of them is better for rare classes could not be shown"),
        ((0, 8), (12, 0), "worse for the other classes"),
        ((3, 2), (2, 3), "No difference could be shown with this many test samples (120) between"),
        ((0, 0), (0, 0), "No difference could be shown with this many test samples (120) between"),
    ],
)
def test_verdict__words_follow_the_certainty_of_each_tier(
    few: tuple[int, int], base: tuple[int, int], expected: str
) -> None:
    assert expected in flipped(few, base)


@pytest.mark.parametrize("gained", range(13))
def test_verdict__nothing_is_undecided_whose_interval_excludes_0(gained: int) -> None:
    sentence = flipped((gained, 0), (0, 0))
    interval = re.search(r"few [-+][\d.]+ \[([-+][\d.]+), ", sentence)
    assert interval is not None
    shown = " better for rare classes (" in sentence and "probably better for" not in sentence
    assert shown == (float(interval[1]) > 0)


def test_verdict__judges_the_correction_that_ships_and_names_its_limit() -> None:
    right = {
        BASE: ("base", [0, 0, 0, 0, 1, 1, 1, 1]),
        "alphanet rho 1": ("alphanet", [0, 0, 0, 0, 1, 1, 1, 1]),
        "few-bias": ("simple", [1, 1, 1, 1, 1, 1, 1, 1]),
        "in this run: tau-norm": ("shipped", [1, 0, 0, 0, 0, 0, 1, 1]),
    }
    common = hand_made(right)
    promised = {"method": "tau-norm", "limits": {"max_overall_drop": 1.0, "confidence": 0.95}}
    common.methods = (*common.methods[:3], replace(common.methods[3], settings=promised))
    roles = {"shipped": "in this run: tau-norm", "alphanet": "alphanet rho 1"}
    sentences = said(common, simple="few-bias", **roles)
    # What ships is simple itself, so that AlphaNet is what it is held against.
    assert "in this run: tau-norm" in sentences[0].lower()
    assert "alphanet rho 1" in sentences[0]
    assert sentences[1] == (
        "In this run: tau-norm (few +25.0, overall -12.5), made for at most 1 "
        "points lost overall with 95% confidence on fresh samples: on these samples 12.5 points "
        "are lost, more than the limit (to be expected of 5% of fresh samples at the most)."
    )
    assert sentences[2].startswith("Validation chooses the base model: nothing gains")


SHIPS, ALPHANET = {"shipped": "in this run: alphanet"}, {"alphanet": "alphanet rho 1"}
SIMPLE: dict[str, str] = {"simple": "few-bias"}
ROLES: list[dict[str, str]] = [
    ALPHANET,
    SIMPLE | ALPHANET,
    {"best": "lda"} | SIMPLE | ALPHANET,
    # What ships is held against the other kind, and the best of its own kind is not spoken of.
    {"best": "lda", "simple": "lda"} | SHIPS | ALPHANET,
    SHIPS | ALPHANET,
    {"shipped": "in this run: tau-norm", "best": "few-bias"} | SIMPLE | ALPHANET,
    {"shipped": "in this run: tau-norm"} | SIMPLE,
    {"best": "few-bias"} | SIMPLE,
    {},
]


@pytest.mark.parametrize("roles", ROLES)
def test_marks__are_on_the_methods_that_sentences_name_and_on_no_other(
    roles: dict[str, str],
) -> None:
    right = [0, 0, 0, 0, 1, 1, 1, 1]
    common = hand_made(
        {
            BASE: ("base", right),
            "alphanet rho 1": ("alphanet", right),
            "few-bias": ("simple", right),
            "lda": ("simple", [1, *right[1:]]),
            "in this run: alphanet": ("shipped", right),
            "in this run: tau-norm": ("shipped", right),
        }
    )
    common.methods = tuple(
        replace(one, settings={"method": one.name.split()[-1], "limits": None})
        for one in common.methods
    )
    rows = common.rows()
    told = " ".join(said(common, **roles))
    named = {row.method.name for row in rows if f" {row.method.name} (few " in f" {told}".lower()}
    assert spoken_of(rows, roles) == named
    found = Comparison(
        common_classes(),
        "test",
        8,
        LIMITS,
        rows,
        said(common, **roles),
        Resampling(200, seed=0),
        roles,
    )
    for table in (table_of(found), frontier_table(found)):
        assert {row[0] for row in table.rows if "*" in str(row[-1])} == named
        assert named <= {row[0] for row in table.rows}
    # A file may name roles of rows that it lacks.
    assert spoken_of(rows, {**roles, "best": "another"}) <= named


def null_sentence(seed: int, sizes: tuple[int, int]) -> str:
    """What is said of a data set on which all methods are equally good in truth.

    The best of 8 settings of AlphaNet and the best of 12 simple methods on validation are compared
    on test; base classes and few-split ones have ``sizes`` test samples each.
    """
    rng = np.random.default_rng(seed)
    classes = ClassTable(tuple("abcdef"), np.array([5, 5, 30, 50, 200, 300]))
    labels = np.repeat(np.arange(6), [sizes[0]] * 2 + [sizes[1]] * 4)
    families, few = ["base", *["alphanet"] * 8, *["simple"] * 12], np.isin(labels, classes.few)
    # How hard a sample is is common to all, what each makes of it is its own.
    val, test = (
        rng.random(len(labels))[:, None] + 0.5 * rng.random((len(labels), len(families))) < 0.9
        for _ in range(2)
    )
    places = [0]
    for role in ("alphanet", "simple"):
        mine = [i for i, one in enumerate(families) if one == role]
        places.append(mine[int(val[few][:, mine].mean(axis=0).argmax())])
    methods = [Method(families[i], families[i], True, {}, {}) for i in places]
    common = CommonDraws(classes, labels, methods, test[:, places], Resampling(2, seed))
    return said(common, alphanet="alphanet", simple="simple")[0]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(4, 30), (30, 30), (30, 200)])
def test_verdict__shows_falsely_in_at_most_5_of_100_data_sets(sizes: tuple[int, int]) -> None:
    sentences = [null_sentence(seed, sizes) for seed in range(600)]
    # Anything that is said without "probably": that one wins, is better somewhere, or a trade.
    told = [re.sub(r"which of them is better (overall|for rare classes)", "", s) for s in sentences]
    claim = re.compile(r"wins against|(?<!probably )(?<!not )(better|worse) (for|overall)")
    assert sum(claim.search(one) is not None for one in told) <= 0.05 * len(sentences)
    undecided = [s for s in sentences if s.startswith("No difference could be shown")]
    assert len(undecided) >= 0.80 * len(sentences)


def test_verdict__finds_what_is_there() -> None:
    """A difference that a paired test of the tier alone calls sure is not overlooked."""
    assert " wins against " in flipped((25, 5), (12, 10))


def test_rows__mark_what_is_not_shown_to_keep_the_limit() -> None:
    common = hand_made(
        {BASE: ("base", [0] * 4 + [1] * 4), "few-bias": ("simple", [1] * 4 + [0] * 4)}
    )
    common.methods = (common.methods[0], replace(common.methods[1], within=False))
    rows = common.rows()
    assert [row.method.within for row in rows] == [True, False]
    assert marks(rows[1]) == "!"
    assert marks(rows[1], spoken=True) == "*!"


@pytest.mark.slow
def test_compare__no_choice_sees_test_data() -> None:
    """With shuffled test labels all is the same but the figures measured on test."""
    problem = make_problem(num_classes=12, spread=1.5)
    train, val = (
        Features.of(problem.features[split], problem.labels[split]) for split in ("train", "val")
    )
    near = nearest_neighbours(train.class_means(), problem.classes, k=3)
    given = Given(train, val, problem.head, problem.classes, near)
    ours = correct("few-bias", given, FitSettings(limits=Limits(3.0)))
    names = ("few-bias", "logit-adjustment", "lda", "lws")
    settings_ = CompareSettings(methods=names, rhos=(0.5,), seeds=1, ks=(), on_top_seeds=1)

    def compared(labels: np.ndarray) -> Comparison:
        test = Features.of(problem.features["test"], labels)
        return compare_values(given, test, settings_, shipped=ours)

    own = problem.labels["test"]
    first, shuffled = compared(own), compared(np.random.default_rng(0).permutation(own))
    assert first.roles == shuffled.roles
    assert [chosen(row.method) for row in first.rows] == [chosen(r.method) for r in shuffled.rows]
    assert first.rows[2].figures != shuffled.rows[2].figures
    assert without_figures(first) == without_figures(shuffled)
    (about, *_), others = without_figures(first)
    assert about == "in this run: few-bias"
    assert others[0] == (
        "In this run: few-bias (few #, overall #), made for at most # points lost overall with # "
        "confidence on fresh samples"
    )


def without_figures(found: Comparison) -> tuple[list[str], list[str]]:
    """The two methods of the first sentence, and the other sentences before what is measured.

    Which of two methods wins, and whether a limit was kept, are measured on test like any figure;
    who the two are, and which limit it is, must not be.
    """
    first, *others = found.verdict
    names = [row.method.name for row in found.rows if f"{row.method.name} (few" in first]
    before = [re.split(": within the limit here|: on these samples", one)[0] for one in others]
    return sorted(names, reverse=True), [re.sub(r"[+-]?\d+(\.\d+)?%?", "#", s) for s in before]


def chosen(method: Method) -> dict[str, Any]:
    """All of a method but what single seeds reach on test and the time that it took."""
    return {n: v for n, v in vars(method).items() if n not in ("seeds", "seconds")}
