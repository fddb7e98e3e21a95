"""A YAML file as values that know where they stand, so that an error can name the line.

Numbers, true, false and null are what YAML 1.2 says; ``on``, ``yes`` and the like are plain
text. ``${NAME}`` in a text is the environment variable NAME, ``${NAME:-text}`` has a default.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from alphafix.errors import FileFormatError, InputError
from alphafix.reading.boundary import reading
from alphafix.reading.limits import MOST_YAML, MOST_YAML_DEPTH, MOST_YAML_NODES

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Place:
    """Where something stands.

    Attributes:
        file: The file, or the text of a flag.
        line: Line, from 1; 0 for a flag.
    """

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else self.file


@dataclass(frozen=True)
class Node:
    """A value and its place.

    Attributes:
        value: A number, text, truth value or None; or a list of `Node`, or `Node` by name.
        place: Where it stands.
        variables: The environment variables that its text, or a value in it, names.
    """

    value: Any
    place: Place
    variables: tuple[str, ...] = ()

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def mapping(self, what: str) -> dict[str, Node]:
        """The value of ``what``, which must have names.

        Raises:
            InputError: If it has none.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise InputError(
                f"{self.place}: {what} is no list of names and values",
                got=reprlib.repr(self.plain()),
                expected="lines of `name: value`",
            )
        return dict(self.value)


_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_document(path: Path) -> Node:
    """Read a YAML file, or a JSON file, which is YAML too.

    Raises:
        InputError: If it is not there, or an environment variable is not set.
        FileFormatError: If it is no YAML.
    """
    with reading(path, "a YAML file in UTF-8", todo="correct the file"):
        if path.stat().st_size > MOST_YAML:
            raise ValueError(f"more than {MOST_YAML:,} bytes")
        text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        text = text.replace("\t", "  ")  # an indentation that YAML does not have
    return parse(text, str(path))


def parse(text: str, name: str, *, one_line: bool = False) -> Node:
    """Parse YAML text that stands in the file ``name`` (or is that flag, with ``one_line``).

    Raises:
        FileFormatError: If it is no YAML.
        InputError: If an environment variable is not set.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, 0 if one_line or mark is None else mark.line + 1)
        raise FileFormatError(
            f"{place}: this is no valid YAML", got=error.problem, todo="correct the line"
        ) from error
    except yaml.YAMLError as error:
        raise FileFormatError(f"{name} is no valid YAML", got=str(error)) from error
    return Node(None, Place(name)) if root is None else _Reading(name, one_line).node(root)


class _Loader(yaml.BaseLoader):  # type: ignore[misc]
    """As much as is read; the library itself goes as deep as the text does."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what comes next, unless it lies too deep.

        Raises:
            yaml.composer.ComposerError: If it does.
        """
        self.depth += 1
        if self.depth > MOST_YAML_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(
                None, None, f"more than {MOST_YAML_DEPTH} levels", mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass
class _Reading:
    """Turns what YAML composed into nodes: aliases are put in their places, so these are counted.

    Attributes:
        name: The file, or the text of a flag.
        one_line: Whether it is a flag.
        count: Nodes that were made.
    """

    name: str
    one_line: bool
    count: int = 0

    def place(self, node: yaml.Node) -> Place:
        return Place(self.name, 0 if self.one_line else node.start_mark.line + 1)

    def node(self, node: yaml.Node, depth: int = 1) -> Node:
        place = self.place(node)
        self.count += 1
        if self.count > MOST_YAML_NODES or depth > MOST_YAML_DEPTH:
            raise FileFormatError(
                f"{place}: there is no end to what this stands for",
                got="aliases of aliases, or lists in lists",
                expected=f"at most {MOST_YAML_NODES:,} values in {MOST_YAML_DEPTH} levels",
                todo="write the values out",
            )
        if isinstance(node, yaml.MappingNode):
            named = self._names(node, depth)
            return Node(named, place, _of_all(named.values()))
        if isinstance(node, yaml.SequenceNode):
            items = [self.node(item, depth + 1) for item in node.value]
            return Node(items, place, _of_all(items))
        variables = (match[1] for match in _VARIABLE.finditer(node.value))
        return Node(_scalar(node, place), place, tuple(dict.fromkeys(variables)))

    def _names(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in node.value:
            where = self.place(key)
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                text = key.value if isinstance(key, yaml.ScalarNode) else "a list"
                raise FileFormatError(
                    f"{where}: the name {text!r} is there twice or is no name",
                    expected="each name once",
                )
            # An empty value stands where the next line begins.
            read = self.node(value, depth + 1)
            found[key.value] = Node(None, where) if read.value is None else read
        return found


def _scalar(node: yaml.ScalarNode, place: Place) -> Any:
    text: str = node.value
    if "${" in text:
        return _filled(text, place)
    if node.style is not None:  # in quotes
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _of_all(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The environment variables of several values, each of them once."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.variables))


def _filled(text: str, place: Place) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        found = os.environ.get(name) or default
        if found is None:
            raise InputError(
                f"{place}: the environment variable {name} is not set",
                got=text,
                todo=f"set it, for example: export {name}=...",
            )
        return found

    return _VARIABLE.sub(value, text)


def nearest(name: str, known: list[str]) -> str:
    """What to say of an unknown name: the nearest one, or all."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
