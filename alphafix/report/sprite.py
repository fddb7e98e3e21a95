"""Test images as one picture, where the images that features came from are still there."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from alphafix.errors import AlphafixError
from alphafix.features.features import Features
from alphafix.features.store import FeatureStore
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable

logger = logging.getLogger(__name__)

# Longest side of an image in pixels.
SIZE = 48

# Images in a row of the sprite.
ACROSS = 64

# Each time a sprite is too large it loses at least this share of its images.
SHRINK = 0.9


@dataclass(frozen=True)
class Sprite:
    """Many small images as one.

    Attributes:
        uri: The picture, as a data URI; empty without images.
        size: Pixels between one image and the next.
        across: Images in a row.
        samples: The sample of each image, ascending.
        note: What is shown, and what was left out.
    """

    uri: str
    size: int
    across: int
    samples: Sequence[int]
    note: str


def sprite(
    store: Features, classes: ClassTable, wanted: IntArray, *, most: int, room: int
) -> Sprite:
    """Pack the images of samples, as far as they can be found.

    The images are looked for where they were when the features were extracted. A sample is used
    only if the image found in its place has its id.

    Args:
        store: The features of the samples.
        classes: The class table.
        wanted: Samples, those first that are to be seen most.
        most: Number of images.
        room: Characters that the data URI may have.
    """
    find = _finder(store, classes) if isinstance(store, FeatureStore) and most else None
    if find is None:
        why = "not asked for" if not most else "not where the features were made from"
        return Sprite("", SIZE, ACROSS, (), f"No images: they are {why}.")
    asked = np.sort(wanted[:most])
    images = {int(place): image for place in asked if (image := find(int(place))) is not None}
    rank = {int(place): i for i, place in enumerate(wanted[:most])}
    kept = sorted(images)
    side = max((max(image.size) for image in images.values()), default=SIZE)
    uri = _packed([images[place] for place in kept], side)
    while kept and len(uri) > room:
        count = int(len(kept) * min(SHRINK, room / len(uri)))
        kept = sorted(sorted(kept, key=rank.__getitem__)[:count])
        uri = _packed([images[place] for place in kept], side)
    missing = len(asked) - len(images)
    note = f"Images of {len(kept):,} of {len(store):,} samples"
    note += ", those first that change or are wrong; more with --images and --max-size of "
    note += "`alphafix report`"
    note += f"; {missing:,} could not be read." if missing else "."
    return Sprite(uri, side, ACROSS, kept, note)


def _packed(images: Sequence[Image.Image], side: int) -> str:
    """The images in squares and rows of `ACROSS`, as a data URI of WebP; empty without any."""
    if not images:
        return ""
    rows = -(-len(images) // ACROSS)
    sheet = Image.new("RGB", (side * min(len(images), ACROSS), side * rows))
    for place, image in enumerate(images):
        row, column = divmod(place, ACROSS)
        # In the middle of its square.
        left, top = ((side - length) // 2 for length in image.size)
        sheet.paste(image, (column * side + left, row * side + top))
    out = io.BytesIO()
    sheet.save(out, format="WEBP", quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _finder(store: FeatureStore, classes: ClassTable) -> Callable[[int], Image.Image | None] | None:
    """A function that gives the small image of a sample; None without images."""
    options = dict(store.info.get("provenance") or {}).get("options") or {}
    if "data" not in options:
        return None
    from alphafix.images.labels import Known
    from alphafix.images.spec import Details, open_data
    from alphafix.images.splits import Said, choose_splits, open_splits

    split = str(store.info.get("split"))
    try:
        data, said = open_data(options["data"], Details.of(options)), Said.of(options)
        known = Known(classes.names, classes.labels.get("read_as"))
        chosen = choose_splits(data, split, "", said)
        source = open_splits(data, chosen, said, known=known).sources[split]
        starts = np.cumsum([0, *(source.size(group) for group in range(source.groups))])
    except (AlphafixError, OSError) as error:
        logger.info("no images: %s", str(error).splitlines()[0])
        return None
    # Images that were left out at extraction have moved later samples to the front.
    skipped = int(store.info.get("skipped") or 0)

    def find(place: int) -> Image.Image | None:
        for index in range(place, min(place + skipped + 1, int(starts[-1]))):
            group = int(np.searchsorted(starts, index, side="right")) - 1
            found = _image(source, group, index - int(starts[group]), store.ids[place])
            if found is not None:
                return found
        return None

    return find


def _image(source: Any, group: int, index: int, wanted: str) -> Image.Image | None:
    from alphafix.images.decode import decode
    from alphafix.images.source import BadImageError

    try:
        sample = source.sample(group, index)
        if sample.id != wanted:
            return None
        image = decode(sample.content)
    except (BadImageError, AlphafixError, OSError, IndexError):
        return None
    image.thumbnail((SIZE, SIZE))
    return image
