"""Text of others on its way to a person: names of classes, files and tensors must not act.

A name may hold anything: escape sequences that a terminal obeys, characters that turn the reading
direction, line breaks that forge a line of ours, or what a spreadsheet would run.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence

# C0 (but tab and line feed), DEL and C1 control characters; marks and overrides of the reading
# direction; line and paragraph separators; halves of characters, which no output can encode.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# What stands between the names of a list, or around them.
_DIVIDES = re.compile(r'[,;"]|^\s|\s$')

# What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    r"""Characters that act are written as what they are (``\u001b``), which JSON reads as well."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def in_one_line(text: str) -> str:
    r"""As `visible`, with line breaks and tabs written as ``\n`` and ``\t``."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def in_list(name: str) -> str:
    """A name as one of several in a line: in quotes if it holds what could be taken for its end."""
    return json.dumps(name, ensure_ascii=False) if _DIVIDES.search(name) or not name else name


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; text that a spreadsheet would run as a formula gets an apostrophe before it.

    Numbers stay as they are, whatever their sign.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = in_one_line(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
