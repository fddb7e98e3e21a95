"""The report as one HTML page without anything from outside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from alphafix.report.pictures import Picture

# Rows of the class table that are in the document at a time.
PAGE_ROWS = 50

# Nothing may be loaded from anywhere, and only what is in the page may run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        header: Its columns.
        rows: Its cells.
        note: What its signs mean.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


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
        tables: Tables by heading; the first is open, the others unfold.
        frontier: Sentences and table of the comparison, or what to run for it.
        gains: The classes that gain most.
        losses: The classes that lose most.
        classes: The table of classes.
        pictures: The figures, with an SVG text each.
        frontier_pictures: Figures that belong to the comparison.
        provenance: How it was made, as JSON data.
    """

    title: str
    subtitle: Sequence[str]
    verdict: Sequence[str]
    tables: Mapping[str, Table]
    frontier: tuple[Sequence[str], Table | None]
    gains: Sequence[Card]
    losses: Sequence[Card]
    classes: ClassColumns
    pictures: Sequence[tuple[Picture, str]]
    frontier_pictures: Sequence[tuple[Picture, str]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def render(page: Page) -> str:
    """Return the page as HTML. Every text from outside is escaped."""
    parts = [
        f"<h1>{escape(page.title)}</h1>",
        *(f'<p class="soft">{escape(line)}</p>' for line in page.subtitle),
        '<section class="verdict" id="verdict">',
        *(f"<p>{escape(sentence)}</p>" for sentence in page.verdict),
        "</section>",
    ]
    for place, (heading, table) in enumerate(page.tables.items()):
        if place == 0:
            parts += [f"<h2>{escape(heading)}</h2>", _table(table)]
        else:
            summary = f"<summary>{escape(heading)}</summary>"
            parts.append(f"<details>{summary}{_table(table)}</details>")
    parts += _frontier(page)
    parts += _class_table(page.classes)
    for heading, cards in (("Classes that gain most", page.gains), ("… lose most", page.losses)):
        if cards:
            parts += [f"<h2>{escape(heading)}</h2>", '<div class="cards">', *map(_card, cards)]
            parts.append("</div>")
    parts.append("<h2>Figures</h2>")
    parts += [_figure(picture, svg) for picture, svg in page.pictures]
    made = json.dumps(page.provenance, indent=1, ensure_ascii=False, default=str)
    parts += ["<h2>How this was made</h2>", f"<pre>{escape(made)}</pre>"]
    return _document(page, "\n".join(parts))


def _document(page: Page, body: str) -> str:
    resources = files("alphafix.report")
    style = (resources / "page.css").read_text(encoding="utf-8")
    script = (resources / "page.js").read_text(encoding="utf-8")
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without an icon of its own, a browser asks the server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{body}\n{_class_data(page.classes)}\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div>{note}"
    )


def _frontier(page: Page) -> list[str]:
    sentences, table = page.frontier
    parts = ['<h2 id="frontier">Against simpler methods</h2>']
    parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences]
    parts += [_figure(picture, svg) for picture, svg in page.frontier_pictures]
    if table is not None:
        parts.append(_table(table))
    return parts


def _figure(picture: Picture, svg: str) -> str:
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    links = ", ".join(
        f'<a href="figures/{picture.name}.{kind}">{kind.upper()}</a>'
        for kind in ("svg", "png", "csv")
    )
    return (
        f'<figure id="{picture.name}"><h3>{escape(picture.title)}</h3>'
        f'<img src="{uri}" alt="{escape(picture.title)}" loading="lazy">'
        f"<figcaption>{escape(picture.caption)} Files: {links}.</figcaption></figure>"
    )


def _card(card: Card) -> str:
    image = f'<img src="{escape(card.image)}" alt="">' if card.image else ""
    lines = "".join(f"<p>{escape(line)}</p>" for line in card.lines)
    return f'<div class="card">{image}<strong>{escape(card.title)}</strong>{lines}</div>'


def _class_table(columns: ClassColumns) -> list[str]:
    head = "".join(
        f'<th scope="col"{_text_class(kind)}><button type="button">{escape(name)}</button></th>'
        for name, kind in zip(columns.header, columns.kinds, strict=True)
    )
    return [
        "<h2>Every class</h2>",
        '<div class="controls">'
        '<input type="search" id="search" placeholder="search" aria-label="Search classes">'
        '<button type="button" id="previous">previous</button>'
        '<button type="button" id="next">next</button>'
        '<button type="button" id="all">show all</button>'
        '<span class="soft" id="status" role="status"></span></div>',
        f'<div class="scroll"><table id="classes"><thead><tr>{head}</tr></thead>'
        "<tbody></tbody></table></div>",
        "<noscript><p>This table needs JavaScript; report.json has its figures.</p></noscript>",
    ]


def _text_class(kind: str) -> str:
    return ' class="text"' if kind == "text" else ""


def _class_data(columns: ClassColumns) -> str:
    """The table's data as JSON that cannot end its script element."""
    data = {
        "kinds": list(columns.kinds),
        "rows": [list(row) for row in columns.rows],
        "sort": columns.sort,
        "page": PAGE_ROWS,
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="classes-data">{text}</script>'
