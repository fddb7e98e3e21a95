"""Step 2: choose code points and faces, and draw every glyph at 32 x 32."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFont

from alphafix.values.arrays import ByteArray

from .values import RENDER_SIZE, Face, Rendering, option

KNOWN_SCRIPTS = frozenset({"LATIN", "GREEK", "CYRILLIC"})
UNKNOWN_SCRIPTS = """
    ARABIC ARMENIAN BENGALI CANADIAN CHEROKEE COPTIC DEVANAGARI ETHIOPIC GEORGIAN GOTHIC
    GUJARATI GURMUKHI HEBREW HIRAGANA KANNADA KATAKANA KHMER LAO MALAYALAM MONGOLIAN MYANMAR
    NKO OGHAM RUNIC SINHALA TAMIL TELUGU THAI TIBETAN TIFINAGH
"""
FONT_SIZE = 48
# A glyph fills a square of 28 of the 32 pixels; one smaller than 24 pixels at the font
# size is not blown up to it, or a dot would look like a disc.
INK_SIZE = 28
SMALLEST_SIDE = 24
LARGEST_SIDE = 400
SMALLEST_AREA = 9
# A private code point that no font maps: what it draws is the .notdef glyph.
UNMAPPED = "\U0010fffe"


@dataclass(frozen=True)
class RenderOptions:
    """How many glyphs to draw; every field is a flag of the command line."""

    per_family: int = option(4, "faces of one family group that may draw a code point")
    min_samples: int = option(80, "glyphs that a candidate class needs")
    min_unknown_families: int = option(6, "family groups that an open-set code point needs")
    max_unknown: int = option(600, "open-set code points at most")
    render_seed: int = option(0, "seed for the choice of faces and open-set code points")


def script(character: str) -> str:
    """Return the first word of a character's Unicode name, its script for letters."""
    return unicodedata.name(character, "?").split()[0]


def is_class_candidate(code_point: int) -> bool:
    """Tell if a code point is a Latin, Greek or Cyrillic letter, or a digit."""
    character = chr(code_point)
    if "LIGATURE F" in unicodedata.name(character, ""):
        return False
    letter = unicodedata.category(character) in {"Lu", "Ll", "Lt", "Lo"}
    return (letter and script(character) in KNOWN_SCRIPTS) or character in "0123456789"


def is_unknown(code_point: int) -> bool:
    """Tell if a code point is a letter of a script that no class belongs to."""
    character = chr(code_point)
    return unicodedata.category(character) == "Lo" and script(character) in UNKNOWN_SCRIPTS.split()


def choose_code_points(
    faces: Sequence[Face], options: RenderOptions
) -> tuple[list[int], list[int]]:
    """Choose the candidates for classes and the open-set code points by their coverage."""
    covering = Counter((face.group, c) for face in faces for c in face.code_points)
    samples: Counter[int] = Counter()
    families: Counter[int] = Counter()
    for (_, code_point), count in covering.items():
        samples[code_point] += min(count, options.per_family)
        families[code_point] += 1
    known = [c for c, n in samples.items() if n >= options.min_samples and is_class_candidate(c)]
    unknown = sorted(
        c for c, n in families.items() if n >= options.min_unknown_families and is_unknown(c)
    )
    size = min(len(unknown), options.max_unknown)
    return sorted(known), sorted(random.Random(options.render_seed).sample(unknown, size))


def assign_glyphs(
    faces: Sequence[Face], known: Sequence[int], unknown: Sequence[int], options: RenderOptions
) -> dict[int, list[int]]:
    """Choose which face draws which code points.

    Returns:
        Face index -> code points.
    """
    generator = random.Random(options.render_seed)
    limits = {**dict.fromkeys(known, options.per_family), **dict.fromkeys(unknown, 1)}
    members = defaultdict(list)
    for index, face in enumerate(faces):
        members[face.group].append(index)
    chosen = {}
    for _, indices in sorted(members.items()):
        generator.shuffle(indices)
        used: Counter[int] = Counter()
        for index in indices:
            wanted = faces[index].code_points & limits.keys()
            chosen[index] = sorted(c for c in wanted if used[c] < limits[c])
            used.update(chosen[index])
    return dict(sorted(chosen.items()))


def render_faces(faces: Sequence[Face], options: RenderOptions) -> Rendering:
    """Draw the chosen glyphs of all faces; blank and missing ones are left out."""
    known, unknown = choose_code_points(faces, options)
    assigned = assign_glyphs(faces, known, unknown, options)
    total = sum(map(len, assigned.values()))
    print(
        f"{len(known)} candidates, {len(unknown)} open code points, {total} glyphs",
        file=sys.stderr,
    )
    images = np.zeros((total, RENDER_SIZE, RENDER_SIZE), np.uint8)
    drawn: list[tuple[int, int]] = []
    for face_id, code_points in assigned.items():
        for code_point, image in draw_face(faces[face_id].path, code_points):
            images[len(drawn)] = image
            drawn.append((code_point, face_id))
    table = np.array(drawn, np.int32).reshape(-1, 2)
    return Rendering(
        images=images[: len(drawn)],
        code_points=table[:, 0],
        face_ids=table[:, 1],
        known=np.array(known, np.int32),
        unknown=np.array(unknown, np.int32),
    )


def draw_face(path: str, code_points: Sequence[int]) -> list[tuple[int, ByteArray]]:
    """Draw code points with one font file."""
    try:
        # Basic layout: shaping would let a feature of the font replace the glyph.
        font = ImageFont.truetype(path, FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        print(f"skipped {path}: {error}", file=sys.stderr)
        return []
    missing = _draw(font, UNMAPPED)
    pairs = []
    for code_point in code_points:
        ink = _draw(font, chr(code_point))
        if ink is None or (missing is not None and ink == missing):
            continue
        image = fit(ink)
        if image is not None:
            pairs.append((code_point, image))
    return pairs


def _draw(font: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """Draw a character; None if the font fails to, or leaves the page blank."""
    try:
        mask = font.getmask(character, mode="L")
    except (OSError, ValueError):
        return None
    if 0 in mask.size:
        return None
    return Image.frombytes("L", mask.size, bytes(mask))


def fit(ink: Image.Image) -> ByteArray | None:
    """Crop to the ink and scale it to the middle of a 32 x 32 image, its aspect kept.

    Returns:
        The image, or None if there is no ink or its size is out of bounds.
    """
    box = ink.getbbox()
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    if width * height < SMALLEST_AREA or max(width, height) > LARGEST_SIDE:
        return None
    scale = INK_SIZE / max(width, height, SMALLEST_SIDE)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Lanczos rings when it shrinks a lot; a box filter does not.
    method = Image.Resampling.LANCZOS if scale >= 0.5 else Image.Resampling.BOX
    page = Image.new("L", (RENDER_SIZE, RENDER_SIZE))
    corner = (RENDER_SIZE - size[0]) // 2, (RENDER_SIZE - size[1]) // 2
    page.paste(ink.crop(box).resize(size, method), corner)
    return np.asarray(page)
