"""Step 1: find the font files and read what each face is and covers."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError

from .values import Face

# Name-table entries, the typographic name before the older one.
FAMILY_IDS = (16, 1)
STYLE_IDS = (17, 2)
COLOUR_TABLES = ("CBDT", "COLR", "sbix", "SVG ")

# Faces that do not draw the letters of their code points as text faces do.
NOT_TEXT = re.compile(
    r"icon|awesome|emoji|symbol|dingbat|barcode|music|svrsym|mfizz|braille|countries|hamnosys"
    r"|phaistos|punk|dantelogo|last ?resort|bullets|webding|keys|semaphor|ornament|initials"
    r"|stripe|yinit|dseg|math|small ?cap|\bsc\b|smcp|caps|unicase|blank|esint|logo|mt extra"
    r"|rsfs|lcircle|fontinst",
    re.IGNORECASE,
)

# First words that say nothing about the family: take the second word as well.
GENERIC_WORDS = """
    adf adobe alegreya antykwa ar averia bitstream bpg brill bwht charis cm cmu dejavu droid eb
    fira font fonts free gentium gfs gl gnu go ibm im jsmath kp latin league liberation libre
    linux little lm lohit modern new nimbus noto old open playfair pt roboto samyak sil source
    stix tex the theano tiresias tlwg ukij urw zero
"""


def find_fonts(roots: Iterable[Path]) -> list[Path]:
    """List the font files below some folders, links resolved, each file once."""
    found: set[Path] = set()
    for root in roots:
        for folder, _, names in os.walk(root, followlinks=True):
            fonts = (name for name in names if name.lower().endswith((".otf", ".ttf")))
            found.update(Path(folder, name).resolve() for name in fonts)
    return sorted(path for path in found if path.is_file())


def scan_fonts(paths: Iterable[Path]) -> list[Face]:
    """Read the text faces among font files, without copies of the same face."""
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    contents: set[str] = set()
    names: set[str] = set()
    faces = []
    for path, digest in _digests(paths):
        if digest in contents:
            continue
        contents.add(digest)
        face = read_face(path)
        if face is not None and face.name not in names:
            names.add(face.name)
            faces.append(face)
    return faces


def _digests(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        yield path, hashlib.sha256(path.read_bytes()).hexdigest()


def read_face(path: Path) -> Face | None:
    """Read one font file; None for a file that is damaged or no text face.

    Variable fonts are left out, as their default instance is mostly packaged as well.
    """
    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            return _read_open_font(font, path)
    except (TTLibError, OSError, KeyError, ValueError, AssertionError) as error:
        print(f"skipped {path.name}: {error!r}", file=sys.stderr)
        return None


def _read_open_font(font: TTFont, path: Path) -> Face | None:
    character_map = font.getBestCmap()
    if character_map is None or "fvar" in font or any(t in font for t in COLOUR_TABLES):
        return None
    family, style = _name(font, FAMILY_IDS), _name(font, STYLE_IDS)
    full_name = _name(font, (4,))
    if NOT_TEXT.search(f"{family} {full_name} {path.name}"):
        return None
    group = group_name(family or full_name or path.stem)
    return Face(str(path), family, style, group, frozenset(character_map))


def _name(font: TTFont, name_ids: Iterable[int]) -> str:
    names = (font["name"].getDebugName(name_id) for name_id in name_ids)
    return next((name for name in names if name), "")


def group_name(family: str) -> str:
    """Reduce a family name to its group: the first word, or two if that one is generic."""
    words = re.findall(r"[a-z0-9]+", family.lower())
    if not words:
        return family
    first = words[0].rstrip("0123456789") or words[0]
    generic = first in GENERIC_WORDS.split()
    return f"{first} {words[1]}" if generic and len(words) > 1 else first
