"""Draw who imports whom: python -m examples.docs.draw, from the repository; --check only looks.

Each room of CONTRIBUTING.md is a step of a stair. To the left of its name are dots under the rooms
that it imports, above its name dots of the rooms that import it.
"""

from __future__ import annotations

import argparse
import sys
from html import escape
from pathlib import Path

from tests.architecture import imports, room_of, rooms

TARGET = Path(__file__).parent / "pages" / "architecture.svg"

STEP = 20
LABEL = 150  # the widest name of a room


def main() -> int:
    """Write the picture, or check it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if stale.")
    wanted = picture(rooms(), between_rooms())
    if not parser.parse_args().check:
        TARGET.write_text(wanted, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != wanted:
        print(f"{TARGET.name} is stale; run python -m examples.docs.draw", file=sys.stderr)
        return 1
    return 0


def between_rooms() -> set[tuple[str, str]]:
    """Pairs of a room and another that it imports."""
    order = rooms()
    pairs = {
        (str(room_of(one.importer, order)), str(room_of(one.imported, order))) for one in imports()
    }
    return {(room, other) for room, other in pairs if room != other}


def picture(order: list[str], pairs: set[tuple[str, str]]) -> str:
    """The stair as SVG, the lowest room at the bottom left."""
    size = len(order) * STEP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size + LABEL} {size}" '
        'role="img" aria-labelledby="title" font-family="sans-serif" font-size="13">',
        '<title id="title">The rooms of the package and their imports, which point down</title>',
        f'<rect width="{size + LABEL}" height="{size}" fill="#fff"/>',
    ]
    for place, room in enumerate(order):
        x, y = place * STEP, size - (place + 1) * STEP
        middle = y + STEP / 2
        parts += [
            f'<path d="M0 {middle:g}H{x}M{x + STEP / 2:g} {y}V0" stroke="#e4e4e4"/>',
            f'<text x="{x + 4}" y="{middle + 4.5:g}" fill="#222">{escape(room)}</text>',
        ]
    for room, other in sorted(pairs):
        across = order.index(other) * STEP + STEP / 2
        up = size - order.index(room) * STEP - STEP / 2
        parts.append(
            f'<circle cx="{across:g}" cy="{up:g}" r="5" fill="#2a6fb0">'
            f"<title>{escape(room)} imports {escape(other)}</title></circle>"
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
