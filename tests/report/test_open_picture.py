from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.features.writer import FeatureWriter
from alphafix.metrics.open_set import OpenSet
from alphafix.openset.curve import CURVES, open_curve
from alphafix.openset.samples import OpenSamples
from alphafix.report.open_picture import open_curve_picture
from alphafix.report.style import svg_text
from tests.evaluation.problems import corrected_run
from tests.stages import find_neighbors


def samples(seed: int, unknown: int = 20) -> OpenSamples:
    rng = np.random.default_rng(seed)
    known = np.arange(40 + unknown) < 40
    confidence = rng.random(len(known)).astype(np.float32)
    return OpenSamples(confidence, known & (rng.random(len(known)) < 0.7), known)


def open_set(unknown: int = 20) -> OpenSet:
    curve = open_curve(samples(0, unknown), samples(1, unknown))
    return OpenSet(0.1, 40, unknown, {}, {}, curve)


def test_picture__csv_holds_both_curves() -> None:
    found = open_set()
    rows = list(csv.DictReader(io.StringIO(open_curve_picture(found).csv())))
    assert [row["head"] for row in rows] == ["base"] * 101 + ["corrected"] * 101
    for name in CURVES:
        assert float(rows[130][name]) == pytest.approx(found.curve.corrected.figures[name][29])


def test_picture__says_where_the_best_threshold_is_from() -> None:
    picture = open_curve_picture(open_set())
    assert "chosen on these very samples" in picture.caption
    text = svg_text(picture.drawing)
    for words in ("known accepted", "F-measure, old form", "before"):
        assert words in text


def test_picture__without_unknown_samples() -> None:
    picture = open_curve_picture(open_set(unknown=0))
    rows = list(csv.DictReader(io.StringIO(picture.csv())))
    assert {row["unknown_accepted"] for row in rows} == {""}


@pytest.mark.slow
def test_report__open_adds_the_figure_and_the_rows(tmp_path: Path) -> None:
    run = corrected_run(tmp_path / "run")
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    writer = FeatureWriter(run.features("open"), num_classes=16)
    features = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    writer.add(features, np.full(30, -1), [f"open/{i}" for i in range(30)])
    writer.finish({"split": "open"})
    arguments = ["report", "--run", str(run.folder), "--bootstraps", "100", "--open", "open"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    page = Path(result.stdout.strip())
    assert (page.parent / "figures" / "open-set.csv").is_file()
    text = page.read_text(encoding="utf-8")
    for words in ("Unknown classes against the threshold", "open set: detection error"):
        assert words in text
