"""The report as one HTML page without anything from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alphafix.report.inline import inlined
from alphafix.report.pictures import Picture
from alphafix.report.style import svg_text
from alphafix.report.templates import render as fill
from alphafix.report.templates import source
from alphafix.values.display import Table

# Rows of the class table that are in the document at a time.
PAGE_ROWS = 50

SCRIPTS = ("data.js", "steer.js", "look.js", "classes.js")


@dataclass(frozen=True)
class Drawn:
    """A figure as the page holds it.

    Attributes:
        picture: The figure.
        svg: As a file of its own.
        inline: As a part of the page.
    """

    picture: Picture
    svg: str
    inline: str

    @classmethod
    def of(cls, picture: Picture) -> Drawn:
        """Draw a figure."""
        svg = svg_text(picture.drawing, picture.title)
        return cls(picture, svg, inlined(svg, picture.name, picture.title, picture.values))


@dataclass(frozen=True)
class Tile:
    """Accuracy of some classes before and after.

    Attributes:
        title: Which classes.
        note: How many, and what makes them these.
        before: Accuracy before, as text; empty without samples.
        after: Likewise, after.
        change: The change, and how sure it is.
        tone: 1 for better, -1 for worse, 0 for what is within noise.
    """

    title: str
    note: str
    before: str
    after: str
    change: str
    tone: int


@dataclass(frozen=True)
class Moved:
    """A class whose accuracy changed.

    Attributes:
        label: Its id.
        name: Its name.
        lines: What there is to say about it.
        tone: 1 for better, -1 for worse.
    """

    label: int
    name: str
    lines: Sequence[str]
    tone: int


@dataclass(frozen=True)
class Frontier:
    """The comparison with other methods.

    Attributes:
        sentences: What it says, or what to run for one.
        table: Its methods, or None without one.
        picture: Its figure.
    """

    sentences: Sequence[str]
    table: Table | None = None
    picture: Drawn | None = None


@dataclass(frozen=True)
class Classes:
    """The table of classes: one entry a class in each column; None is n/a.

    Attributes:
        header: Its columns.
        kinds: "text" (wide), "word", "number", "percent" or "change" for each.
        columns: Their cells.
        labels: What the page's script calls each of them.
        sort: Column that it is sorted by at first, the largest first.
        note: What is left out.
    """

    header: Sequence[str]
    kinds: Sequence[str]
    columns: Sequence[Sequence[Any]]
    labels: Sequence[int]
    sort: int
    note: str = ""

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """One tuple a class."""
        return list(zip(*self.columns, strict=True))


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        title: Its heading.
        subtitle: What was measured on what.
        tiles: Rare, other, and all classes.
        verdict: One sentence.
        worst: The classes that lose most.
        best: The classes that gain most.
        curve: The trade-off of the correction in figures.
        pays: Who pays, as a table.
        steering: What the script needs for the slider and the classes, as JSON data.
        methods: Names of the methods that the slider moves.
        notes: What the slider leaves out, and where the images come from.
        tables: Further tables.
        frontier: How other methods do.
        classes: The table of classes.
        pictures: The other figures.
        provenance: How it was made, as JSON data.
    """

    title: str
    subtitle: Sequence[str]
    tiles: Sequence[Tile]
    verdict: str
    worst: Sequence[Moved]
    best: Sequence[Moved]
    curve: Table | None
    pays: Table
    steering: Mapping[str, Any]
    methods: Sequence[str]
    notes: Mapping[str, str]
    tables: Sequence[Table]
    frontier: Frontier
    classes: Classes
    pictures: Sequence[Drawn]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> list[Drawn]:
        """Every figure of the page."""
        first = [] if self.frontier.picture is None else [self.frontier.picture]
        return [*first, *self.pictures]


def render(page: Page) -> str:
    """Return the page as HTML. Every text from outside is escaped."""
    table = page.classes
    return fill(
        "page.html",
        page=page,
        style=source("page.css"),
        script="".join(source(name) for name in SCRIPTS),
        made=json.dumps(page.provenance, indent=1, ensure_ascii=False, default=str),
        data={
            "table": {
                "kinds": table.kinds,
                "columns": table.columns,
                "labels": table.labels,
                "sort": table.sort,
                "page": PAGE_ROWS,
            },
            **page.steering,
        },
    )
