"""The report as one HTML page without anything from outside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alphafix.report.pictures import Picture
from alphafix.report.templates import render as fill
from alphafix.report.templates import source
from alphafix.values.display import Table

# Rows of the class table that are in the document at a time.
PAGE_ROWS = 50


@dataclass(frozen=True)
class Drawn:
    """A figure as the page holds it."""

    picture: Picture
    svg: str

    @property
    def uri(self) -> str:
        """The SVG as an image's address."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


@dataclass(frozen=True)
class Frontier:
    """The comparison with other methods.

    Attributes:
        sentences: What it says, or what to run for one.
        table: Its methods, or None without one.
        pictures: Its figures.
    """

    sentences: Sequence[str]
    table: Table | None = None
    pictures: Sequence[Drawn] = ()


@dataclass(frozen=True)
class Card:
    """A class whose accuracy changed much.

    Attributes:
        title: Its name.
        lines: What there is to say about it.
        image: A data URI, or None.
    """

    title: str
    lines: Sequence[str]
    image: str | None = None


@dataclass(frozen=True)
class ClassColumns:
    """The sortable table of classes.

    Attributes:
        header: Its columns.
        kinds: "text" (wide), "word", "number", "percent" or "change" for each.
        rows: One list a class; None is n/a.
        sort: Column that it is sorted by at first, the largest first.
    """

    header: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[Sequence[Any]]
    sort: int


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        title: Its heading.
        subtitle: What was measured on what.
        verdict: Three sentences.
        tables: Tables; the first is open, the others unfold.
        frontier: How other methods do.
        gains: The classes that gain most.
        losses: The classes that lose most.
        classes: The table of classes.
        pictures: The figures.
        provenance: How it was made, as JSON data.
    """

    title: str
    subtitle: Sequence[str]
    verdict: Sequence[str]
    tables: Sequence[Table]
    frontier: Frontier
    gains: Sequence[Card]
    losses: Sequence[Card]
    classes: ClassColumns
    pictures: Sequence[Drawn]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> list[Drawn]:
        """Every figure of the page."""
        return [*self.frontier.pictures, *self.pictures]


def render(page: Page) -> str:
    """Return the page as HTML. Every text from outside is escaped."""
    columns = page.classes
    return fill(
        "page.html",
        page=page,
        style=source("page.css"),
        script=source("page.js"),
        made=json.dumps(page.provenance, indent=1, ensure_ascii=False, default=str),
        data={
            "kinds": columns.kinds,
            "rows": columns.rows,
            "sort": columns.sort,
            "page": PAGE_ROWS,
        },
    )
