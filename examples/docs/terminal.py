"""The terminal's picture in README.md: what `alphafix demo` shows, as SVG.

    python -m examples.docs.terminal

runs the demo in a real terminal of 60 columns, which can be read on a telephone too, and draws
what is left on its screen, but for the lines of stages, whose seconds are those of one machine.
Nothing in the picture is loaded from elsewhere.
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.terminal.screen import LINES, in_terminal

PICTURE = Path(__file__).parent / "pages" / "demo.svg"

WIDTH = 60

# A stage that is done, how its line goes on in the next one, and the end.
STAGE = re.compile(r" *[\d.]+ s  | {9}\S|exit code 0")

THEME = TerminalTheme(
    (22, 27, 34),
    (230, 237, 243),
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (230, 237, 243),
    ],
)

# Rich's own form of a window, without the fonts that it takes from the net.
FORM = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"
 role="img" aria-label="alphafix demo in a terminal">
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
<rect fill="#161b22" x="1" y="1" width="{width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture(written: bytes, width: int = WIDTH) -> str:
    """The screen after all that was written to it, as SVG.

    Args:
        written: Every byte that was written to a terminal.
        width: Its columns.
    """
    screen = pyte.Screen(width, LINES)
    pyte.ByteStream(screen).feed(written)
    last = max(y for y in range(LINES) if screen.display[y].strip())
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    for y in range(last + 1):
        if STAGE.match(screen.display[y]):
            continue
        cells = [screen.buffer[y][x] for x in range(width)]
        pieces = (("".join(c.data for c in run), style) for style, run in groupby(cells, _style))
        console.print(Text.assemble(*pieces))
    return console.export_svg(title="", theme=THEME, code_format=FORM, unique_id="demo")


def _style(cell: pyte.screens.Char) -> Style:
    return Style(color=None if cell.fg == "default" else cell.fg, bold=cell.bold)


def main() -> None:
    """Draw it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, written = in_terminal(["demo"], WIDTH, Path(folder))
    PICTURE.write_text(picture(written), encoding="utf-8")


if __name__ == "__main__":
    main()
