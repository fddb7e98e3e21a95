"""Tables of expected figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphafix.commands.run.show import beside_table
from alphafix.errors import FileFormatError
from alphafix.recipes.expected import Beside, Cell, read_expected
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
