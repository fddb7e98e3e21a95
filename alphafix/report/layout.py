"""Tables in the width that there is: what goes first, and what never does.

A terminal breaks what is wider than itself in the middle of a number. So a table gives up, until
it fits: the intervals of its figures, those of changes last; then columns that it names as
`Table.spare`. Text is broken between words. A name or a figure is never cut: in a terminal
too narrow for all that, the figures of a row stand in the line below its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from alphafix.shown import in_one_line, visible
from alphafix.values.display import Cell, Part, Table

GAP = "  "

# Figures below the name of their row are set in by so much.
INDENT = "    "

# A column of text is never made narrower than this to make room for others.
LEAST_TEXT = 20


@dataclass(frozen=True)
class Piece:
    """A part of a line.

    Attributes:
        text: Its characters, with the spaces that align it.
        tone: As in `Cell`.
        strong: Whether it is in a heading.
    """

    text: str
    tone: int = 0
    strong: bool = False


Line = tuple[Piece, ...]


def lay_out(parts: Sequence[Part], width: int | None = None) -> list[Line]:
    """Set tables and text: lines of text follow one another, a table has empty lines around it.

    Args:
        parts: What is shown.
        width: Characters that a line may have; None for as many as it takes.
    """
    lines: list[Line] = []
    for place, part in enumerate(parts):
        alone = isinstance(part, Table) or (place > 0 and isinstance(parts[place - 1], Table))
        if place and alone:
            lines.append(())
        if isinstance(part, Table):
            lines += _table(part, width)
        else:
            lines += _prose(part, width)
    return lines


def plain(lines: Iterable[Line]) -> str:
    """Lines without any style, each with its line break."""
    return "".join("".join(piece.text for piece in line) + "\n" for line in lines)


def _prose(text: str, width: int | None) -> list[Line]:
    """Text, broken between words; what stands in backquotes is one: a command to copy."""
    shown = visible(text).split("\n")
    if width is not None:
        shown = [line for one in shown for line in _filled(one, width)]
    return [(Piece(line),) for line in shown]


def _filled(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    # What is set in ("  got:      ...", " 12.3 s  ...") goes on below its first word.
    label = re.match(r"\s*[\d.]+ s  |\s+(?:[\w ]+:\s+)?", text)
    start = label[0] if label is not None else ""
    lines = _fill(re.findall(r"(?:`[^`]*`|\S)+", text[len(start) :]), width - len(start))
    return [f"{' ' * len(start) if place else start}{line}" for place, line in enumerate(lines)]


def _fill(words: Iterable[str], width: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _table(table: Table, width: int | None) -> list[Line]:
    title = [] if not table.title else _prose(in_one_line(table.title), width)
    lines, left_out = _set(table, width)
    notes = [*table.notes]
    if left_out:
        notes.append(f"no room here for {', '.join(left_out)}: see a wider terminal, or `| cat`")
    below = [line for note in notes for line in _prose(in_one_line(note), width)]
    return [*title, *lines, *([()] if table.notes else []), *below]


def _set(table: Table, width: int | None) -> tuple[list[Line], list[str]]:
    """The lines of a table, and what there was no room for: "intervals", names of columns."""
    columns, left_out = _columns(table), []
    for changes in (False, True):  # those of changes are the last to go
        for column in columns if width is not None and _width(columns) > width else ():
            if column.is_change == changes and column.shorten():
                left_out = ["intervals"]
    if width is not None:
        _break_text(columns, width)
    for name in table.spare:
        if width is not None and _width(columns) > width:
            kept = [column for column in columns if column.name != name]
            left_out += [name] if len(kept) < len(columns) else []
            columns = kept
    if width is not None and _width(columns) > width:
        return list(_stacked(columns, width)), left_out
    header = list(_lines([[column.name] for column in columns], columns)) if table.header else []
    rows = zip(*(column.cells for column in columns), strict=True)
    return [*header, *_rows(rows, columns)], left_out


@dataclass
class _Column:
    """A column while it is set: each cell is a list of lines."""

    name: str
    cells: list[list[str]]
    text: bool
    full: Sequence[str]

    @property
    def width(self) -> int:
        return max(map(cell_len, [self.name, *(line for cell in self.cells for line in cell)]))

    @property
    def is_change(self) -> bool:
        return any(isinstance(cell, Cell) and cell.tone is not None for cell in self.full)

    def shorten(self) -> bool:
        """Leave the intervals out; whether there were any."""
        short = [[getattr(cell, "short", cell)] for cell in self.full]
        changed = short != self.cells
        self.cells = short
        return changed

    def break_at(self, width: int) -> None:
        """Break text into lines of this width, where no word is longer."""
        self.cells = [_broken(line, width) for line in self.full]

    def tone(self, row: int) -> int:
        cell = self.full[row]
        return (cell.tone or 0) if isinstance(cell, Cell) else 0


def _columns(table: Table) -> list[_Column]:
    """The columns, their texts such that they cannot act in a terminal."""
    rows = [list(map(_shown, row)) for row in table.rows]
    count = len(table.header) or max(map(len, rows), default=0)
    names = [in_one_line(name) for name in table.header] or [""] * count
    columns = zip(*rows, strict=True) if rows else [()] * count
    return [
        _Column(name, [[cell] for cell in cells], i in (0, *table.left), cells)
        for i, (name, cells) in enumerate(zip(names, columns, strict=True))
    ]


def _shown(cell: object) -> str:
    if isinstance(cell, Cell):
        return Cell(in_one_line(cell), in_one_line(cell.short), cell.tone)
    return in_one_line(str(cell))


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _break_text(columns: Sequence[_Column], width: int) -> None:
    """Break columns of text between words, the widest first."""
    for column in sorted(columns[1:], key=lambda one: -one.width):
        excess = _width(columns) - width
        if column.text and excess > 0:
            column.break_at(max(column.width - excess, LEAST_TEXT))


def _broken(text: str, width: int) -> list[str]:
    """Lines of words; between the items of a list first, as a name belongs to its figure."""
    items = text.split(", ")
    parts = [f"{item}," for item in items[:-1]] + items[-1:]
    words = [
        word for part in parts for word in ([part] if cell_len(part) <= width else part.split(" "))
    ]
    return _fill(words, width)


def _rows(rows: Iterable[Sequence[list[str]]], columns: Sequence[_Column]) -> Iterator[Line]:
    for place, row in enumerate(rows):
        yield from _lines(row, columns, place)


def _lines(
    row: Sequence[list[str]], columns: Sequence[_Column], place: int | None = None
) -> Iterator[Line]:
    """The lines of one row."""
    for number in range(max(map(len, row), default=0)):
        pieces = []
        for lines, column in zip(row, columns, strict=True):
            text = lines[number] if number < len(lines) else ""
            space = " " * (column.width - cell_len(text))
            aligned = text + space if column.text else space + text
            tone = 0 if place is None else column.tone(place)
            pieces.append(Piece(aligned, tone, strong=place is None))
        yield _between(pieces)


def _between(pieces: Sequence[Piece]) -> Line:
    """Pieces with gaps, and no space at the end of the line."""
    last = max((i for i, piece in enumerate(pieces) if piece.text.strip()), default=-1)
    found: list[Piece] = []
    for place, piece in enumerate(pieces[: last + 1]):
        text = piece.text.rstrip() if place == last else piece.text
        found += [Piece(GAP)] * (place > 0) + [Piece(text, piece.tone, piece.strong)]
    return tuple(found)


def _stacked(columns: Sequence[_Column], width: int) -> Iterator[Line]:
    """A row as its name, and below it its figures, each with the name of its column."""
    for place in range(len(columns[0].cells)):
        yield (Piece(columns[0].full[place].rstrip()),)
        line: list[Piece] = []
        for column in columns[1:]:
            text = " ".join(column.cells[place])
            if not text.strip():
                continue
            piece = Piece(f"{column.name} {text}".strip(), column.tone(place))
            used = sum(cell_len(one.text) + len(GAP) for one in line)
            if line and len(INDENT) + used + cell_len(piece.text) > width:
                yield (Piece(INDENT), *_between(line))
                line = []
            line.append(piece)
        if line:
            yield (Piece(INDENT), *_between(line))
