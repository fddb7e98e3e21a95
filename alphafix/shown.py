"""Text of others on its way to a person: names of classes, files and tensors must not act.

A name may hold anything: escape sequences that a terminal obeys, characters that turn the reading
direction, line breaks that forge a line of ours, or what a spreadsheet would run. And an address
may hold what nobody else is to read: a password, or the signature of a link.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# C0 (but tab and line feed), DEL and C1 control characters; marks and overrides of the reading
# direction; line and paragraph separators; halves of characters, which no output can encode.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# What stands for the secret parts of an address.
HIDDEN = "***"

# Addresses in a text, perhaps with one slash, as paths have it; private-use characters are marks of
# `alphafix.errors`.
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]+:/{1,2})([^\s'\"<>`\ue000-\ue002]+)", re.IGNORECASE)
_USER = re.compile("^[^/?#@]*(?:@[^/?#@]*)*@")
_QUERY = re.compile(r"([?&;#])([^=&;#?]+)=([^&;#]+?)(?=[&;#]|[:,.)\]]*$)")
_SECRET = re.compile(
    r"(^|[-_.])sig($|[-_.])|signature|token|secret|pass|pwd|credential|auth|jwt|policy|session"
    r"|api[-_.]?key|access[-_.]?key|key[-_.]?pair",
    re.IGNORECASE,
)
# What no person has thought of, whatever it is called.
_RANDOM = re.compile("[A-Za-z0-9+=_%~-]{20,}")

# What stands between the names of a list, or around them.
_DIVIDES = re.compile(r'[,;"]|^\s|\s$')

# What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def without_secrets(text: str) -> str:
    """A text in which passwords, tokens and signatures of addresses are hidden.

    Of ``https://user:password@host/file?X-Amz-Signature=0123&page=2`` it leaves
    ``https://***@host/file?X-Amz-Signature=***&page=2``.
    """
    return _ADDRESS.sub(_hidden, text) if ":/" in text else text


def _hidden(address: re.Match[str]) -> str:
    rest = _USER.sub(f"{HIDDEN}@", address[2])
    return address[1] + _QUERY.sub(_hidden_value, rest)


def _hidden_value(pair: re.Match[str]) -> str:
    mark, name, value = pair.groups()
    secret = _SECRET.search(name) or _RANDOM.fullmatch(value)
    return f"{mark}{name}={HIDDEN if secret else value}"


def without_secrets_in(data: Any) -> Any:
    """JSON data, in whose texts the secrets of addresses are hidden."""
    if isinstance(data, str):
        return without_secrets(data)
    if isinstance(data, Mapping):
        return {name: without_secrets_in(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [without_secrets_in(value) for value in data]
    return data


def visible(text: str) -> str:
    r"""Characters that act are written as what they are (``\u001b``), which JSON reads as well.

    Secrets of addresses are hidden (see `without_secrets`).
    """
    shown = without_secrets(text)
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)


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
