"""The documentation as a site: it builds, its picture is drawn from the imports of today."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import alphafix
from tests.architecture import REPOSITORY, rooms

SOURCES = REPOSITORY / "examples" / "docs"


def build(target: Path) -> subprocess.CompletedProcess[str]:
    command = ["mkdocs", "build", "--strict", "-f", str(SOURCES / "mkdocs.yml"), "-d", str(target)]
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=target, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_site__builds_without_a_warning_and_holds_every_public_name(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "python.html").read_text(encoding="utf-8")
    for name in alphafix.__all__:
        assert f'id="alphafix.{name}"' in page, name
    for room in rooms():
        if not room.startswith("__"):
            assert f">{room}</a>" in page, room
    assert 'src="architecture.svg"' in (tmp_path / "architecture.html").read_text(encoding="utf-8")


def test_picture__is_of_todays_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.docs.draw", "--check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_picture__has_a_dot_where_a_room_imports_another() -> None:
    draw: Any = importlib.import_module("examples.docs.draw")
    picture = draw.picture(["low.py", "high/"], {("high/", "low.py")})
    assert picture.count("<circle") == 1
    assert 'cx="10" cy="10"' in picture
    assert "high/ imports low.py" in picture


def test_architecture__has_a_paragraph_for_every_room() -> None:
    text = (SOURCES / "pages" / "architecture.md").read_text(encoding="utf-8")
    paragraphs = re.findall(r"^\*\*`([\w/.]+)`\*\*", text, re.MULTILINE)
    assert paragraphs == rooms()
