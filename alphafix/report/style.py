"""How all figures look: one palette, readable in print and for the colour-blind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which keeps apart for the colour-blind.
FEW = "#d55e00"
MEDIUM = "#0072b2"
MANY = "#009e73"
OVERALL = "#555555"
NEUTRAL = "#999999"
ACCENT = "#cc79a7"
GOLD = "#e69f00"
SKY = "#56b4e9"

TIER_COLORS = {"few": FEW, "medium": MEDIUM, "many": MANY, "overall": OVERALL}

_SETTINGS: Any = {
    "figure.figsize": (6.4, 4.0),
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
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


def svg_text(made: Figure) -> str:
    """The figure as SVG; the same figure gives the same text."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        out = io.StringIO()
        made.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def png_bytes(made: Figure) -> bytes:
    """The figure as PNG."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        out = io.BytesIO()
        made.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
