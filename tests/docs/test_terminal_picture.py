"""README.md's picture of the terminal: what the demo shows, as a drawing that stands alone."""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from tests.docs.blocks import REPOSITORY

terminal: Any = importlib.import_module("examples.docs.terminal")

# Pixels of a character in the drawing.
CHARACTER = 12.2

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def words(svg: str) -> str:
    """All text of a drawing, as it stands in lines and columns."""
    root = ElementTree.fromstring(svg)
    rows: dict[str, str] = {}
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        line = rows.get(element.attrib["y"], "")
        column = round(float(element.attrib["x"]) / CHARACTER)
        text = (element.text or "").replace("\xa0", " ").rstrip("\n")
        rows[element.attrib["y"]] = f"{line:{column}}{text}"
    return "\n".join(row.rstrip() for row in rows.values() if row.strip())


def test_picture__is_in_the_first_screen_and_loads_nothing() -> None:
    place = terminal.PICTURE.relative_to(REPOSITORY).as_posix()
    assert README.index(place) < README.index("## First look")
    svg = terminal.PICTURE.read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\s\"]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in svg.replace("url(#", "")
    assert "<script" not in svg


def test_picture__says_what_readme_says() -> None:
    shown = words(terminal.PICTURE.read_text(encoding="utf-8"))
    assert shown.startswith("$ alphafix demo\n")
    assert "next: alphafix compare --run alphafix-demo" in shown
    table = README.split("```text\ntest accuracy")[1].split("```")[0]
    for name in ("base model", "patched model", "its gain"):
        (printed,) = re.findall(rf"^ *{name} +(.*)$", table, re.MULTILINE)
        (drawn,) = re.findall(rf"^ *{name} +(.*)$", shown, re.MULTILINE)
        assert drawn.split() == printed.split()


def test_picture__can_be_read_at_390_pixels() -> None:
    """A character of 60 columns is 6.5 pixels wide there, and 10 high."""
    svg = terminal.PICTURE.read_text(encoding="utf-8")
    found = re.search(r'viewBox="0 0 (\d+)', svg)
    size = re.search(r"font: (\d+)px", svg)
    assert found is not None
    assert size is not None
    assert int(size[1]) * 390 / int(found[1]) >= 10


def test_picture__has_colours_and_no_stages() -> None:
    stage = "  1.5 s  stage with words\r\n         that go on\r\n"
    svg = terminal.picture(f"$ x\r\n{stage}\x1b[32m+8.5\x1b[0m <&> \x1b[31m-1\x1b[0m".encode())
    assert words(svg).splitlines() == ["$ x", "+8.5 <&> -1"]
    assert "#56d364" in svg
    assert "#ff7b72" in svg
