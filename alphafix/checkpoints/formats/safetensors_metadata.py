"""Adding an entry to a safetensors header, with every byte of it that was there kept."""

from __future__ import annotations

import json
from pathlib import Path

from alphafix.checkpoints.formats.format import free_key
from alphafix.checkpoints.formats.safetensors_header import MOST_HEADER_BYTES, read_header
from alphafix.checkpoints.formats.splices import Splice
from alphafix.errors import FileFormatError, option

# The header grows by whole blocks, so that the file system can share those of the data.
BLOCK = 4096

_METADATA = "__metadata__"


def metadata_splice(path: Path, key: str, value: str) -> Splice:
    """Return the splice that adds ``key: value`` to the metadata of a safetensors file.

    It has the length of what it replaces if the header's padding has room for the entry;
    otherwise the data moves by a multiple of 4096 bytes. An entry that is there stays: a
    number is added to the new one's key.

    Raises:
        FileFormatError: If the header would become larger than the format allows.
    """
    header = read_header(path)
    text = header.raw.decode().rstrip(" ")
    entry = f"{json.dumps(free_key(header.metadata, key))}:{json.dumps(value, ensure_ascii=False)}"
    new = _insert(text, entry).encode()
    missing = max(0, len(new) - len(header.raw))
    new = new.ljust(len(header.raw) + -(-missing // BLOCK) * BLOCK)
    if len(new) > MOST_HEADER_BYTES:
        raise FileFormatError(
            f"{path} has no room for an entry in its metadata",
            got=f"a header of {len(header.raw):,} bytes",
            expected=f"at most {MOST_HEADER_BYTES:,} bytes with the entry",
            todo=f"patch with {option('provenance', False)}",
        )
    return Splice(0, header.data_start, len(new).to_bytes(8, "little") + new)


def _insert(text: str, entry: str) -> str:
    place, empty = _metadata_place(text)
    if place is None:
        rest = text[text.index("{") + 1 :]
        comma = "" if rest.lstrip().startswith("}") else ","
        return f'{{"{_METADATA}":{{{entry}}}{comma}{rest}'
    return f"{text[:place]}{entry}{'' if empty else ','}{text[place:]}"


def _metadata_place(text: str) -> tuple[int | None, bool]:
    """Return where the first metadata entry stands, if there is a table of them; is it empty?"""
    decoder = json.JSONDecoder()
    at = _skip(text, 1)
    while text[at] == '"':
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, at)  # the colon, and the blanks around it
        if name == _METADATA:
            return at + 1, text[at + 1 :].lstrip().startswith("}")
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
    return None, True


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n,:":
        at += 1
    return at
