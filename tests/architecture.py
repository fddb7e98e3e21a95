"""The rooms of the package in the order of CONTRIBUTING.md, and who imports whom."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "alphafix"

_MODULE = re.compile(r"alphafix(\.\w+){2,}")
_HEADING = "## The rooms, bottom to top\n"


@dataclass(frozen=True, order=True)
class Import:
    """One file of the package that imports another, both relative to it.

    Attributes:
        importer: The file that imports.
        imported: The file that it imports.
        line: Where.
    """

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"alphafix/{self.importer}:{self.line} imports alphafix/{self.imported}"


def files() -> dict[str, str]:
    """The files of the package, relative to it, by the name of their module."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.relative_to(PACKAGE).as_posix()
    return found


def imports() -> list[Import]:
    """All imports between files of the package: lazy ones, and those for type checkers, too.

    A text that is a module's name counts as well: it is there to be imported later.
    """
    modules = files()
    found = set()
    for file in modules.values():
        for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
            for name in _names(node):
                # What is imported from a module may be a module too, or a name in it.
                imported = modules.get(name) or modules.get(name.rpartition(".")[0])
                if imported not in (None, file):
                    found.add(Import(file, str(imported), getattr(node, "lineno", 0)))
    return sorted(found)


def _names(node: ast.AST) -> Iterator[str]:
    """What a node may import of the package: a module, or a name in one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith("alphafix."))
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"a relative import of {node.module}"
        if node.module and node.module.partition(".")[0] == "alphafix":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and _MODULE.fullmatch(str(node.value)):
        yield str(node.value)


def rooms() -> list[str]:
    """The rooms in the order of CONTRIBUTING.md: files, and folders with a slash at their end."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(_HEADING)[1]
    lines = section.split("```text\n")[1].split("```")[0].splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith(" ")]


def room_of(file: str, order: list[str]) -> str | None:
    """The room that a file lies in: the longest entry that covers it, or None."""
    covering = [room for room in order if file == room or _inside(file, room)]
    return max(covering, key=len, default=None)


def _inside(file: str, room: str) -> bool:
    return room.endswith("/") and file.startswith(room)


def circle(found: list[Import]) -> list[str]:
    """Files that import one another in a circle, if there are such; the first that is met."""
    graph: dict[str, set[str]] = {}
    for one in found:
        graph.setdefault(one.importer, set()).add(one.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        nodes: list[str] = error.args[1]
        return nodes
    return []
