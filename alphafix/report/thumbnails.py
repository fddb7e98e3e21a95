"""Small pictures of classes, where the images that features came from are still there."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from alphafix.errors import AlphafixError
from alphafix.features.features import Features
from alphafix.features.store import FeatureStore
from alphafix.values.classes import ClassTable

logger = logging.getLogger(__name__)

# Longest side in pixels; a page shows a few dozen.
SIZE = 48


def thumbnails(store: Features, classes: ClassTable, wanted: Sequence[int]) -> dict[int, str]:
    """A data URI (PNG) of one image of each wanted class, as far as images can be found.

    The images are looked for where they were when the features were extracted. A sample is
    used only if the image found in its place has its id.
    """
    source = _source(store, classes) if isinstance(store, FeatureStore) else None
    if source is None or source.groups != 1:
        return {}
    found = {}
    for label in wanted:
        places = np.flatnonzero(store.labels == label)
        if len(places) and (uri := _thumbnail(source, store, int(places[0]))) is not None:
            found[int(label)] = uri
    return found


def _source(store: FeatureStore, classes: ClassTable) -> Any:
    """The images of the store, or None."""
    options = dict(store.info.get("provenance") or {}).get("options") or {}
    if "data" not in options or store.info.get("skipped"):
        return None
    from alphafix.images.labels import Known
    from alphafix.images.spec import Details, open_data
    from alphafix.images.splits import Said, choose_splits, open_splits

    try:
        data = open_data(options["data"], Details.of(options))
        split = str(store.info.get("split"))
        said = Said.of(options)
        known = Known(classes.names, classes.labels.get("read_as"))
        return open_splits(data, choose_splits(data, split, "", said), said, known=known).sources[
            split
        ]
    except (AlphafixError, OSError) as error:
        logger.info("no thumbnails: %s", str(error).splitlines()[0])
        return None


def _thumbnail(source: Any, store: Features, place: int) -> str | None:
    from alphafix.images.decode import decode
    from alphafix.images.source import BadImageError

    try:
        sample = source.sample(0, place)
        if sample.id != store.ids[place]:
            return None
        image = decode(sample.content)
    except (BadImageError, AlphafixError, OSError, IndexError):
        return None
    image = image.convert("RGB")
    image.thumbnail((SIZE, SIZE))
    out = io.BytesIO()
    image.save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
