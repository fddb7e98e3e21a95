"""The house stands: no circle of imports, and no room imports a room above it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from alphafix.commands import COMMANDS
from tests.architecture import PACKAGE, Import, circle, files, imports, room_of, rooms

EXAMPLES = PACKAGE.parent / "examples"


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports()


def test_rooms__are_all_named_once_and_there() -> None:
    order = rooms()
    assert len(set(order)) == len(order)
    for room in order:
        assert (PACKAGE / room).is_dir() if room.endswith("/") else (PACKAGE / room).is_file(), room
    homeless = [file for file in files().values() if room_of(file, order) is None]
    assert not homeless, "these are in no room of CONTRIBUTING.md"


def test_imports__are_found(found: list[Import]) -> None:
    """Not a list of nothing: the package's own entry, lazy imports and names to be imported."""
    pairs = {(one.importer, one.imported) for one in found}
    assert ("__main__.py", "commands/app.py") in pairs
    assert ("__init__.py", "estimator.py") in pairs
    assert len(pairs) > 500


def test_imports__have_no_circle(found: list[Import]) -> None:
    assert circle(found) == []


def test_imports__point_down(found: list[Import]) -> None:
    order = rooms()
    above = []
    for one in found:
        importer, imported = room_of(one.importer, order), room_of(one.imported, order)
        if importer and imported and order.index(imported) > order.index(importer):
            above.append(f"{one}, a room above it")
    if above:
        pytest.fail("\n".join(above))


def test_circle__is_found() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]
    assert set(circle([Import(a, b, 1) for a, b in pairs])) == set("abc")
    assert circle([Import(a, b, 1) for a, b in pairs[:2]]) == []


def test_room__is_the_longest_entry_that_covers_a_file() -> None:
    order = ["files.py", "models/losses/", "models/"]
    assert room_of("models/losses/a.py", order) == "models/losses/"
    assert room_of("models/a.py", order) == "models/"
    assert room_of("files.py", order) == "files.py"
    assert room_of("other/files.py", order) is None


def test_examples__no_two_scripts_have_one_name() -> None:
    """They import each other by name alone, and the tests import many of them in one process."""
    folders = [path for path in EXAMPLES.iterdir() if path.is_dir()]
    names = Counter(path.stem for folder in folders for path in folder.glob("*.py"))
    assert len(names) > 40
    assert [name for name, times in names.items() if times > 1] == []


def test_contributing__names_files_that_are_there() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`(alphafix/[\w/.]+)`", text)
    assert len(named) > 20
    assert [path for path in named if not (PACKAGE.parent / path).exists()] == []


@pytest.mark.parametrize("command", ["extract", "train", "patch"])
def test_options__are_named_in_few_modules(command: str) -> None:
    """From the flag to its use: what names an option, other commands left out."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if path.parent.parent.name != "commands" or path.parent.name == command
    }
    others = {
        name
        for one in COMMANDS.values()
        if one.name != command
        for name in one.options.model_fields
    }
    for name in COMMANDS[command].options.model_fields:
        # Others, like k or seed, are words of everybody's, or of other commands too.
        if "_" in name and name not in others:
            named = [path for path, text in texts.items() if re.search(rf"\b{name}\b", text)]
            assert 2 <= len(named) <= 12, (name, named)
