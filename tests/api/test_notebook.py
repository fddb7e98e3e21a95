"""What a notebook shows of the values: escaped tables with both sides, and figures."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import alphafix
from alphafix.errors import InputError
from alphafix.metrics.comparison import Comparison
from alphafix.report.html import html
from alphafix.values import display
from alphafix.values.correction import Correction
from alphafix.values.display import MOST_ROWS, Table
from alphafix.values.head import HeadSource
from tests.common import make_problem

BASE = make_problem()
HOSTILE = ("<script>alert(1)</script>", 'a & "b"', *BASE.classes.names[2:])
PROBLEM = replace(BASE, classes=replace(BASE.classes, names=HOSTILE))
DATA: dict[str, Any] = {
    split: (PROBLEM.features[split], PROBLEM.labels[split]) for split in PROBLEM.features
}
TABLE, HEAD = PROBLEM.classes, PROBLEM.head


@pytest.fixture(scope="module")
def near() -> alphafix.Neighbours:
    return alphafix.find_neighbors(DATA["train"], HEAD, TABLE)


@pytest.fixture(scope="module")
def found(near: alphafix.Neighbours) -> Correction:
    return alphafix.train(DATA["train"], HEAD, TABLE, near, val=DATA["val"], seeds=2, epochs=6)


@pytest.fixture(scope="module")
def result(found: Correction) -> alphafix.Evaluation:
    return alphafix.evaluate(DATA["test"], HEAD, TABLE, found, bootstraps=100)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return alphafix.compare(
        DATA["train"],
        HEAD,
        TABLE,
        val=DATA["val"],
        test=DATA["test"],
        methods=["few-bias"],
        rho=0.5,
        seeds=1,
        k=[2],
        on_top=False,
        bootstraps=100,
    )


class Cells(HTMLParser):
    """Checks that tags are balanced, and collects the cells of each row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        assert tag in {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "small"}
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def shown(value: Any) -> Cells:
    return Cells(value._repr_html_())


def test_table_html__escapes_everything_and_counts_what_is_left_out() -> None:
    rows = [[f"<b>{i}</b>", i] for i in range(MOST_ROWS + 3)]
    cells = Cells(html(Table("<i>title</i>", ["<u>", "&"], rows, ["<note>"])))
    assert cells.rows[0] == ["<u>", "&"]
    assert cells.rows[1] == ["<b>0</b>", "0"]
    assert len(cells.rows) == 1 + MOST_ROWS
    assert "<i>title</i>" in cells.text
    assert "... and 3 more<note>" in cells.text


def test_evaluation__shows_what_is_gained_and_what_is_lost(result: alphafix.Evaluation) -> None:
    cells = shown(result)
    assert cells.rows[0][3:6] == ["base", "corrected", "change"]
    assert [row[0] for row in cells.rows[1:]] == ["few", "medium", "many", "other", "overall"]
    change = result.tier("overall").figures["top1"].change
    assert change is not None
    assert cells.rows[-1][5].startswith(f"{change.value + 0.0:+.1f} [")
    assert "12 classes: 3 few, 5 medium, 4 many (few < 20" in cells.text


def test_correction__shows_validation_before_and_after(found: Correction) -> None:
    cells = shown(found)
    assert cells.rows[0] == ["validation top-1 in %", "base", "corrected", "change"]
    few, overall = found.chosen.to_dict()["val"]["few"], found.chosen.to_dict()["val"]["overall"]
    assert [cells.rows[i][2] for i in (1, 4)] == [f"{few:.1f}", f"{overall:.1f}"]
    assert cells.rows[4][1] == f"{found.chosen.to_dict()['val_base']['overall']:.1f}"
    assert "rho 0.5" in cells.text


def test_correction__without_validation_says_so(near: alphafix.Neighbours) -> None:
    blind = alphafix.train(DATA["train"], HEAD, TABLE, near, seeds=1, epochs=2)
    assert "nothing was measured" in shown(blind).text


def test_class_table__shows_the_splits() -> None:
    rows = shown(TABLE).rows
    counts = TABLE.counts[TABLE.few]
    assert rows[1] == ["few", "3", str(counts.sum()), str(counts.min()), str(counts.max())]
    empty = alphafix.ClassTable(("a",), np.array([50]))
    assert shown(empty).rows[1] == ["few", "0", "0", "n/a", "n/a"]


def test_neighbours__shows_ids_and_distances(near: alphafix.Neighbours) -> None:
    rows = shown(near).rows
    assert rows[0] == ["few-split class", *(f"neighbour {i}" for i in range(1, 6))]
    assert rows[1][:2] == [str(near.few[0]), f"{near.ids[0, 0]} ({near.distances[0, 0]:.3g})"]


def test_head_and_features__show_their_shapes() -> None:
    source = HeadSource("<model>.pt", "0" * 64, weights=("fc.weight",))
    head = alphafix.Head(HEAD.weight, HEAD.bias, source=source)
    assert shown(head).rows[0] == ["classes", "12"]
    assert shown(head).rows[-1] == ["from", "<model>.pt, fc.weight"]
    store = alphafix.FeatureStore.of(*DATA["train"], num_classes=12)
    assert shown(store).rows[0] == ["samples", f"{len(DATA['train'][1]):,}"]


@pytest.mark.slow
def test_comparison__shows_every_method_and_the_verdict(comparison: Comparison) -> None:
    cells = shown(comparison)
    assert [row[0] for row in cells.rows[1:]] == [row.method.name for row in comparison.rows]
    assert cells.rows[0][5:7] == ["few change", "overall change"]
    assert comparison.verdict[0] in cells.text


@pytest.mark.slow
def test_figures__are_matplotlib_figures(
    near: alphafix.Neighbours,
    found: Correction,
    result: alphafix.Evaluation,
    comparison: Comparison,
    tmp_path: Path,
) -> None:
    drawn = alphafix.figures(DATA["test"], HEAD, TABLE, found, near, bootstraps=100)
    assert {"flows-few-base", "change-distance-few-base", "class-change", "alphas"} <= set(drawn)
    for figure in (*drawn.values(), *map(alphafix.figure, (found, result, comparison, TABLE))):
        assert isinstance(figure, Figure)
    alphafix.figure(result).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_figure__of_a_correction_without_coefficients_is_refused() -> None:
    few = TABLE.few
    with pytest.raises(InputError, match="no coefficients to draw"):
        alphafix.figure(Correction(few, HEAD.weight[few], None, method="few-bias"))


def test_figure__of_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="no figure of a Head"):
        alphafix.figure(HEAD)


def test_value__shows_its_repr_where_nothing_makes_html(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "_shown_by", None)
    assert TABLE._repr_html_() is None
