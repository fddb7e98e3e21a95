"""The code blocks of Markdown files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

_FENCE = re.compile(r"^ *(?P<fence>```+|~~~+)(?P<language>[\w+-]*)")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        place: File and line, for messages.
        language: First word after the fence.
        text: What is in it.
    """

    place: str
    language: str
    text: str


def markdown_files() -> list[Path]:
    """All Markdown files of the repository, relative to it."""
    found = (path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*.md"))
    built = ("build", "dist", "node_modules", "venv", "env")
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") or part in built for part in path.parts)
    )


def blocks_of(path: Path) -> Iterator[Block]:
    """The code blocks of a file, in order.

    Raises:
        ValueError: If a block does not end.
    """
    lines = enumerate((REPOSITORY / path).read_text().splitlines(), 1)
    for number, line in lines:
        if not (opening := _FENCE.match(line)):
            continue
        inside = []
        for _, following in lines:
            if following.strip() == opening["fence"]:
                break
            inside.append(following)
        else:
            raise ValueError(f"{path}:{number}: a code block that does not end")
        yield Block(f"{path}:{number}", opening["language"], "\n".join(inside) + "\n")


def statements(text: str) -> list[str]:
    """The lines of a shell block, continued ones joined, without comments and prompts.

    In a block with a prompt `$ ` the other lines are output.
    """
    lines = [line.strip() for line in re.sub(r"\\\n *", "", text).splitlines()]
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line for line in lines if line and not line.startswith("#")]


def words(statement: str) -> list[list[str]]:
    """The words of each command that a statement consists of."""
    lexer = shlex.shlex(statement, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]
