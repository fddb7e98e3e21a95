"""Which confusions are between like classes: groups of the user's own, or WordNet distance."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, some
from alphafix.metrics.wordnet import is_synset, load_hypernyms, within_edges
from alphafix.values.arrays import BoolArray
from alphafix.values.classes import ClassTable

WORDNET = "wordnet"


def read_groups(source: str, classes: ClassTable, *, edges: int = 4) -> BoolArray:
    """Which predicted class (column) is in the group of which true class (row), bool C x C.

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
        return _by_wordnet(dict(enumerate(classes.names)), len(classes), edges)
    pairs = _read_pairs(Path(source))
    place = {name: i for i, name in enumerate(classes.names)}
    unknown = sorted({name for name, _ in pairs if name not in place})
    if unknown:
        raise InputError(
            f"{source} names classes that are not in the class table",
            got=some(unknown),
            expected=f"names such as {', '.join(classes.names[:3])}",
            todo="use the names of classes.json",
        )
    if pairs and all(is_synset(group) for _, group in pairs):
        return _by_wordnet({place[name]: group for name, group in pairs}, len(classes), edges)
    members = defaultdict(list)
    for name, group in pairs:
        members[group].append(place[name])
    alike = np.eye(len(classes), dtype=np.bool_)
    for inside in members.values():
        alike[np.ix_(inside, inside)] = True
    return alike


def _by_wordnet(synsets: dict[int, str], num_classes: int, edges: int) -> BoolArray:
    alike = np.eye(num_classes, dtype=np.bool_)
    places = np.array(sorted(synsets))
    names = [synsets[place] for place in places.tolist()]
    alike[np.ix_(places, places)] |= within_edges(names, load_hypernyms(), edges)
    return alike


def _read_pairs(path: Path) -> Sequence[tuple[str, str]]:
    """(class, group) pairs of a JSON or tab-separated file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the class groups {path}",
            got=str(error),
            expected='a file, or "wordnet" where class names are WordNet ids',
            todo="check the path given to --groups",
        ) from error
    try:
        if text.lstrip().startswith("{"):
            found = json.loads(text)
            return [(str(name), group) for group, names in found.items() for name in names]
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
        return [(name.strip(), group.strip()) for name, group in lines]
    except ValueError as error:
        raise InputError(
            f"{path} holds no class groups",
            got=str(error),
            expected='JSON {"group": ["class", ...]}, or lines of class name, tab, group',
            todo="mend the file",
        ) from error
