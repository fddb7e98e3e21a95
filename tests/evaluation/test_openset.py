from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from alphafix.commands.app import app
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.errors import InputError, MissingStageError
from alphafix.features.writer import FeatureWriter
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.open_set import OpenSet
from alphafix.metrics.predictions import BeforeAfter, Predictions
from alphafix.openset.figures import FIGURES, OpenSetFigures, open_set_figures
from alphafix.openset.samples import OpenSamples
from alphafix.run.directory import REPORT, Run
from alphafix.values.classes import ClassTable
from tests.evaluation.problems import corrected_run
from tests.stages import evaluate


def predictions(predicted: list[int], confidence: list[float]) -> Predictions:
    return Predictions(
        np.array(predicted, dtype=np.int64),
        np.ones(len(predicted), dtype=np.bool_),
        np.array(confidence, dtype=np.float32),
    )


def figures(
    confidence: list[float], right: list[int], known: list[int], t: float
) -> dict[str, float]:
    samples = OpenSamples(
        np.array(confidence, dtype=np.float32), np.array(right, bool), np.array(known, bool)
    )
    found = OpenSetFigures(samples, t).vector(np.arange(len(known)))
    return dict(zip(FIGURES, found.tolist(), strict=False))


def open_set(
    classes: ClassTable, known: BeforeAfter, unknown: Predictions, *, threshold: float
) -> dict[str, Any]:
    """The figures as JSON data, where both heads say the same of unknown samples."""
    others = BeforeAfter(np.full(len(unknown.predicted), -1), unknown, unknown)
    found = open_set_figures(
        known, others, classes, threshold=threshold, resampling=Resampling(draws=100)
    )
    assert OpenSet.from_dict(json.loads(json.dumps(found.to_dict()))).to_dict() == found.to_dict()
    return found.to_dict()


def test_open_set__hand_computed() -> None:
    # Known: accepted right, accepted right, accepted wrong, rejected. Unknown: one accepted.
    found = figures([0.9, 0.8, 0.7, 0.2, 0.6, 0.1], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 0, 0], 0.5)
    assert found["f_measure"] == pytest.approx(100 * 4 / (4 + 2 + 1))
    assert found["f_measure_old"] == pytest.approx(100 * 4 / (4 + 1 + 1))
    # Of 4 x 2 pairs only (0.2, 0.6) is the wrong way round.
    assert found["auroc"] == pytest.approx(100 * 7 / 8)
    assert found["known_accepted"] == 75
    assert found["unknown_accepted"] == 50


def test_open_set__detection_error_where_95_percent_are_accepted() -> None:
    known = np.linspace(0.5, 0.99, 20).tolist()  # 19 of 20 are at or above the second least
    unknown = [0.9, known[1], 0.5, 0.1]
    found = figures(known + unknown, [1] * 20 + [0] * 4, [1] * 20 + [0] * 4, 0.1)
    assert found["detection_error"] == pytest.approx(100 * (0.05 + 0.5) / 2)


def test_open_set__detection_error_takes_tied_samples_together() -> None:
    found = figures([0.5] * 8, [1] * 4 + [0] * 4, [1] * 4 + [0] * 4, 0.1)
    assert found["detection_error"] == 50


def test_open_set__splits_closed_and_open_by_hand() -> None:
    classes = ClassTable(("few", "medium", "medium too"), np.array([5, 50, 60]))
    labels = np.array([0, 0, 1, 2])
    before = predictions([0, 0, 1, 1], [0.9, 0.2, 0.3, 0.9])
    after = predictions([0, 0, 1, 2], [0.9, 0.6, 0.7, 0.9])
    unknown = predictions([0, 1], [0.8, 0.1])
    found = open_set(classes, BeforeAfter(labels, before, after), unknown, threshold=0.5)
    values = {
        name: [split[key]["base"]["value"] for key in ("closed", "open")]
        for name, split in found["splits"].items()
        if name != "many"
    }
    # Rejected: the second sample of the few class, and the only one of the first medium class.
    assert values == {"few": [100, 50], "medium": [50, 0], "base": [50, 0], "overall": [75, 25]}
    assert found["splits"]["few"]["open"]["change"]["value"] == 50
    assert found["splits"]["few"]["classes"] == 1


def test_open_set__split_without_classes_is_not_available() -> None:
    classes = ClassTable(("few", "medium"), np.array([5, 50]))
    known, unknown = predictions([0, 1], [0.9, 0.9]), predictions([0], [0.5])
    both = BeforeAfter(np.array([0, 1]), known, known)
    found = open_set(classes, both, unknown, threshold=0.1)
    nothing = {"base": None, "corrected": None, "change": None}
    assert found["splits"]["many"] == {"classes": 0, "closed": nothing, "open": nothing}
    assert "NaN" not in json.dumps(found)


def test_open_set__only_the_old_form_rises_when_all_but_one_are_rejected() -> None:
    confidence, right, known = [0.99, 0.5, 0.5, 0.5, 0.5], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]
    low, high = (figures(confidence, right, known, t) for t in (0.4, 0.9))
    assert high["f_measure_old"] == 100 > low["f_measure_old"]
    assert high["f_measure"] < low["f_measure"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_open_set__auroc_as_scikit_learn_also_with_ties_and_repeats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.random(60), 1).astype(np.float32)
    known = np.arange(60) < 40
    samples = OpenSamples(confidence, known & (rng.random(60) < 0.5), known)
    index = np.r_[rng.integers(0, 40, 40), rng.integers(40, 60, 20)]
    found = OpenSetFigures(samples, 0.5).vector(index)[FIGURES.index("auroc")]
    assert found == pytest.approx(100 * roc_auc_score(known[index], confidence[index]))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = corrected_run(tmp_path / "run")
    writer = FeatureWriter(run.features("open"), num_classes=16)
    rng = np.random.default_rng(0)
    writer.add(
        rng.normal(size=(50, 8)).astype(np.float32) / np.float32(4),
        np.full(50, -1),
        [f"open/{i}" for i in range(50)],
    )
    writer.finish({"split": "open"})
    return run


def test_evaluate__open_set_for_base_and_corrected(run: Run) -> None:
    options = EvaluateOptions(run=run.folder, bootstraps=100, open="open", open_threshold=0.3)
    found = evaluate(options).open_set
    assert found is not None
    data = found.to_dict()
    assert (data["unknown_samples"], data["threshold"]) == (50, 0.3)
    assert data["auroc"]["base"]["value"] > 60
    for name in FIGURES:
        parts = data[name]
        difference = parts["corrected"]["value"] - parts["base"]["value"]
        assert parts["change"]["value"] == pytest.approx(difference)
        assert parts["base"]["low"] <= parts["base"]["value"] <= parts["base"]["high"]
    loaded = Evaluation.load(run.path(REPORT))
    assert loaded.open_set == found


def test_evaluate__open_features_from_a_folder_are_the_same(run: Run) -> None:
    named = evaluate(EvaluateOptions(run=run.folder, bootstraps=100, open="open"))
    folder = str(run.features("open"))
    options = EvaluateOptions(run=run.folder, bootstraps=100, open=folder, overwrite=True)
    assert evaluate(options).open_set == named.open_set


def test_evaluate__missing_open_features(run: Run) -> None:
    with pytest.raises(MissingStageError, match=r"extract.*none"):
        evaluate(EvaluateOptions(run=run.folder, open="none"))


def test_evaluate__known_samples_in_the_open_set(run: Run) -> None:
    with pytest.raises(InputError, match="320 of the 320 samples of test are of known classes"):
        evaluate(EvaluateOptions(run=run.folder, open="test"))


def test_evaluate__closed_accuracy_is_that_of_the_main_table(run: Run) -> None:
    found = evaluate(EvaluateOptions(run=run.folder, bootstraps=100, open="open"))
    assert found.open_set is not None
    for name in ("few", "overall"):
        closed = found.open_set.to_dict()["splits"][name]["closed"]
        top1 = found.tier(name).figures["top1"]
        assert top1.corrected is not None
        assert closed["corrected"]["value"] == pytest.approx(top1.corrected.value)


def test_evaluate__curve_goes_through_the_figures(run: Run) -> None:
    options = EvaluateOptions(run=run.folder, bootstraps=100, open="open", open_threshold=0.3)
    measured = evaluate(options).open_set
    assert measured is not None
    found = measured.to_dict()
    curve = found["open_curve"]
    at = curve["thresholds"].index(0.3)
    for name in ("f_measure", "f_measure_old", "known_accepted", "unknown_accepted"):
        for head in ("base", "corrected"):
            assert curve[head][name][at] == pytest.approx(found[name][head]["value"])
    overall = found["splits"]["overall"]["open"]["corrected"]["value"]
    assert curve["corrected"]["open_top1"][at] == pytest.approx(overall)


def test_command__shows_open_set_rows(run: Run) -> None:
    from typer.testing import CliRunner

    arguments = ["evaluate", "--run", str(run.folder), "--bootstraps", "100", "--open", "open"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    for words in (
        "open set: F-measure ",
        "open set: F-measure, old form",
        "open set: AUROC",
        "open set: top-1, few",
    ):
        assert words in result.stdout
