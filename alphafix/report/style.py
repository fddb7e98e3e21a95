"""How all figures look: one palette, readable in print and for the colour-blind."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One meaning a colour, over all figures and the page, told apart by the colour-blind: the hue of
# few stands against greys, which differ in lightness and line; blue is right or better, orange
# wrong or worse.
FEW = "#9c1f7a"
MEDIUM = "#5f5f6b"
MANY = "#8b8b97"
OVERALL = "#000000"
RIGHT = "#0060a8"
WRONG = "#b04a00"
NEUTRAL = "#999999"
MARK = "#00796b"

TIER_COLORS = {"few": FEW, "medium": MEDIUM, "many": MANY, "overall": OVERALL}

# Beside the colours: how lines and points of the splits look.
TIER_LINES = {"few": "-", "medium": "--", "many": ":", "overall": "-."}
TIER_MARKERS = {"few": "o", "medium": "s", "many": "^", "overall": "D"}

# The page has each colour in a light and a dark form, under these names.
ROLES = {
    FEW: "few",
    MEDIUM: "medium",
    MANY: "many",
    RIGHT: "gain",
    WRONG: "loss",
    NEUTRAL: "faint",
    MARK: "mark",
}

# 9 points are 12 pixels: nothing that is read in a figure is smaller.
TEXT = 9

_SETTINGS: Any = {
    "figure.figsize": (6.4, 4.0),
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "legend.fontsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": NEUTRAL,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    # Text stays text in SVG, so that it can be searched and read aloud.
    "svg.fonttype": "none",
    # The same figure gives the same bytes.
    "svg.hashsalt": "alphafix",
}


@contextmanager
def canvas(**arguments: Any) -> Iterator[tuple[Figure, Any]]:
    """Yield (figure, axes) of Matplotlib in the common style, without touching global state.

    The figure is made without pyplot, so that no display is needed and nothing stays open.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        size = arguments.pop("figsize", _SETTINGS["figure.figsize"])
        made = Figure(figsize=size, layout="constrained")
        axes = made.subplots(**arguments)
        yield made, axes


def svg_text(made: Figure, title: str | None = None) -> str:
    """The figure as SVG, which says its title; the same figure gives the same text."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        out = io.StringIO()
        named = {} if title is None else {"Title": title}
        made.savefig(out, format="svg", metadata={"Date": None, "Creator": None, **named})
    return out.getvalue()


def png_bytes(made: Figure, title: str | None = None) -> bytes:
    """The figure as PNG, with its title above it."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        out = io.BytesIO()
        if title is not None:
            made.suptitle("\n".join(textwrap.wrap(title, 80)), fontsize=TEXT + 1)
        made.savefig(out, format="png", facecolor="white", metadata={"Software": None})
    return out.getvalue()
