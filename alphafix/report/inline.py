"""Matplotlib's SVG as a part of the page: its colours, and values under the pointer."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence

from alphafix.report.style import OVERALL, ROLES
from alphafix.shown import in_one_line

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

# Matplotlib writes points; a pixel of CSS is three quarters of one.
_PIXELS = 4 / 3

_COLOR = re.compile("|".join([OVERALL, *ROLES]), re.IGNORECASE)


def inlined(svg: str, name: str, label: str, values: Mapping[str, Sequence[str]]) -> str:
    """The SVG element for the body of an HTML page.

    Ink takes the colour of the text around it, other colours are those of the page (`ROLES`),
    and no id is that of another figure.

    Args:
        svg: What Matplotlib wrote.
        name: The figure's name, unique on the page.
        label: What it is, for those who cannot see it.
        values: See `alphafix.report.pictures.Picture`.
    """
    root = ElementTree.fromstring(svg)
    for part in root.findall(f"{{{_SVG}}}metadata") + root.findall(f"{{{_SVG}}}title"):
        root.remove(part)
    for gid, texts in values.items():
        _say(root, gid, texts)
    for element in root.iter():
        _adapt(element, name)
    width, height = (
        float(root.get(side, "0pt").removesuffix("pt")) for side in ("width", "height")
    )
    root.set("width", f"{width * _PIXELS:.0f}")
    root.set("height", f"{height * _PIXELS:.0f}")
    root.set("role", "img")
    root.set("aria-label", in_one_line(label))
    root.set("style", "fill: currentColor")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, "unicode")


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Colours of the page, ids of the figure's own."""
    for key, value in element.attrib.items():
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == f"{{{_XLINK}}}href" and value.startswith("#"):
            element.set(key, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))
    for key in ("style", "fill", "stroke"):
        if (painted := element.get(key)) is not None:
            element.set(key, _COLOR.sub(_role, painted))


def _role(found: re.Match[str]) -> str:
    color = found[0].lower()
    return f"var(--{ROLES[color]})" if color in ROLES else "currentColor"


def _say(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    """Give the marks of one part their texts, if each has one."""
    for part in root.iter():
        if part.get("id") == gid:
            marks = list(_marks(part))
            for mark, text in zip(marks, texts, strict=False) if len(marks) == len(texts) else ():
                title = ElementTree.SubElement(mark, f"{{{_SVG}}}title")
                title.text = in_one_line(text)


def _marks(part: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """What is drawn in a part: its uses of a shape or, without any, its shapes."""
    uses = list(part.iter(f"{{{_SVG}}}use"))
    if uses:
        yield from uses
        return
    inside = {id(one) for defs in part.iter(f"{{{_SVG}}}defs") for one in defs.iter()}
    yield from (one for one in part.iter(f"{{{_SVG}}}path") if id(one) not in inside)
