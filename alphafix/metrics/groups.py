"""Which confusions are between like classes: groups of the user's own, or WordNet distance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, option, some
from alphafix.metrics.alike import Alike
from alphafix.metrics.wordnet import is_synset, load_hypernyms, within_edges
from alphafix.reading.boundary import reading
from alphafix.reading.schema import parse_json, typed
from alphafix.shown import in_list
from alphafix.values.classes import ClassTable

WORDNET = "wordnet"


def read_groups(source: str, classes: ClassTable, *, edges: int = 4) -> Alike:
    """Which predicted class is in the group of which true one.

    Args:
        source: A file, or "wordnet" where the class names are WordNet ids such as n02084071.
            A file is JSON, ``{"group": ["class", ...]}``, or text with a class name, a tab
            and a group on each line. A class may be in several groups, and is alike to itself
            in any case. Where all groups of a text file are WordNet ids, classes are alike
            within ``edges`` edges of WordNet (AlphaNet, Figure 6: 4).
        classes: The class table.
        edges: Longest WordNet path between like classes.

    Raises:
        InputError: If the file cannot be read, or names a class that is not there, or WordNet
            is needed and not installed or does not know an id.
    """
    if source == WORDNET:
        synsets = dict(enumerate(classes.names))
        return within_edges(synsets, len(classes), load_hypernyms(), edges)
    pairs = _read_pairs(Path(source))
    place = {name: i for i, name in enumerate(classes.names)}
    unknown = sorted({name for name, _ in pairs if name not in place})
    if unknown:
        raise InputError(
            f"{source} names classes that are not in the class table",
            got=some(map(in_list, unknown)),
            expected=f"names such as {', '.join(map(in_list, classes.names[:3]))}",
            todo="use the names of classes.json",
        )
    if pairs and all(is_synset(group) for _, group in pairs):
        synsets = {place[name]: group for name, group in pairs}
        return within_edges(synsets, len(classes), load_hypernyms(), edges)
    numbers: dict[str, int] = {}
    marks = [(place[name], numbers.setdefault(group, len(numbers))) for name, group in pairs]
    members, groups = np.array(marks, dtype=np.int64).reshape(-1, 2).T
    return Alike.of_marks((members, groups), (members, groups), len(classes))


def _read_pairs(path: Path) -> Sequence[tuple[str, str]]:
    """(class, group) pairs of a JSON or tab-separated file."""
    what = (
        'a file of class groups: JSON {"group": ["class", ...]}, or lines of class name, tab, '
        'group (or "wordnet" where class names are WordNet ids)'
    )
    with reading(path, what, todo=f"mend the file, or correct {option('groups')}"):
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("{"):
            found = typed(dict[str, list[str]], parse_json(text))
            return [(name, group) for group, names in found.items() for name in names]
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
        return [(name.strip(), group.strip()) for name, group in lines]
