"""Tables of expected figures."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from alphafix.commands.run.show import beside_table
from alphafix.errors import FileFormatError
from alphafix.recipes.expected import Beside, Cell, read_expected
from alphafix.report.expected_picture import expected_picture
from alphafix.report.layout import lay_out, plain

TABLE = "source: A paper, Table 1\ncolumns: [few, overall]\nrows:\n  base: [1, 2.5±0.25]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "table.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_table__has_means_deviations_and_gaps(tmp_path: Path) -> None:
    table = read_expected(write(tmp_path, TABLE + "  other: [null, 3]\nnote: a note\n"))
    assert table.rows["base"] == {"few": Cell(1.0), "overall": Cell(2.5, 0.25)}
    assert table.rows["other"]["few"] is None
    assert (table.on, table.note) == ("test", "a note")


def test_beside__shows_differences_of_what_both_have(tmp_path: Path) -> None:
    table = read_expected(write(tmp_path, TABLE + "  other: [null, 3]\n"))
    beside = Beside(table, {"base": {"few": Cell(2.0, 0.1), "overall": None}})
    shown = plain(lay_out([beside_table(beside)]))
    assert [line.split() for line in shown.splitlines()[2:5]] == [
        ["base", "expected", "1.0", "2.5±0.25"],
        ["measured", "2.0±0.10", "-"],
        ["difference", "+1.0", "-"],
    ]
    assert "not measured: other" in shown


def test_beside__shows_other_forms_where_they_differ(tmp_path: Path) -> None:
    table = read_expected(write(tmp_path, TABLE + "forms: [official, released]\n"))
    own = {"few": Cell(2.0), "overall": Cell(3.0)}
    other = {"few": Cell(2.5), "overall": Cell(3.0)}
    beside = Beside(table, {"base": own}, {"official": {"base": own}, "released": {"base": other}})
    lines = [line.split() for line in plain(lay_out([beside_table(beside)])).splitlines()]
    assert ["preset", "released", "2.5", "3.0"] in lines
    assert not any(line[:2] == ["preset", "official"] for line in lines)
    assert beside.to_dict()["rows"][0]["released"]["few"]["value"] == 2.5
    assert "official" not in beside.to_dict()["rows"][0]


FIGURE = """
rows: {"a, 1": [1, 2], "a, 10": [3, 4], "b, 1": [1, 2], "b, 10": [null, null]}
figure:
  {name: some-lines, title: Lines, axis: classes, row: "{line}, {x}", lines: [a, b], at: [1, 10]}
"""


def test_figure__has_a_line_a_model_and_a_panel_a_column(tmp_path: Path) -> None:
    table = read_expected(write(tmp_path, TABLE.partition("rows")[0] + FIGURE))
    assert table.figure is not None
    measured = {"a, 1": {"few": Cell(5.0), "overall": Cell(6.0)}, "b, 10": {"few": Cell(7.0)}}
    picture = expected_picture(Beside(table, measured), table.figure)
    assert list(csv.reader(io.StringIO(picture.csv()))) == [
        ["model", "classes", "few", "overall"],
        ["a", "1.0", "5.0", "6.0"],
        ["a", "10.0", "", ""],
        ["b", "1.0", "", ""],
        ["b", "10.0", "7.0", ""],
    ]
    few, overall = picture.drawing.axes
    assert [panel.get_title() for panel in (few, overall)] == ["few", "overall"]
    assert np.asarray(few.lines[0].get_xydata())[0].tolist() == [1, 5]
    assert np.asarray(few.lines[1].get_xydata())[1].tolist() == [10, 7]
    assert picture.values["few-1"] == ["b: 7.0 at 10"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{line}, {x}", "{line} {x}"),
        ("some-lines", "../lines"),
        ("at: [1, 10]", "at: [one]"),
        ("title: Lines, ", ""),
        ("title: Lines", "heading: Lines"),
    ],
)
def test_figure__of_rows_that_are_not_there_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = write(tmp_path, TABLE.partition("rows")[0] + FIGURE.replace(old, new))
    with pytest.raises(FileFormatError, match="no figure of the table"):
        read_expected(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("columns", "colums", "no columns"),
        ("[1, 2.5±0.25]", "[1]", "line 4"),
        ("2.5±0.25", "many", "line 4"),
        ("2.5±0.25", "2.5±", "line 4"),
        ("rows:", "extra: 1\nrows:", "a part extra"),
        ("rows:", "forms: [offical]\nrows:", "no forms of AlphaNet"),
    ],
)
def test_table__that_is_malformed_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_expected(write(tmp_path, TABLE.replace(old, new)))
